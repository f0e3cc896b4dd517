//! Exact money: a decimal with its currency, parsed from text and formatted for people.
//!
//! Amounts are never floating-point numbers, and no operation rounds. A value that cannot be represented exactly is an error.

use std::fmt;

use rust_decimal::Decimal;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest accepted integer part, in digits. With [`MAX_DECIMALS`], every sum that is computed is exact.
const MAX_INTEGER_DIGITS: usize = 18;
/// Longest accepted fraction, in digits without trailing zeros.
pub const MAX_DECIMALS: usize = 8;
/// Longest accepted currency code. Codes of ISO 4217 have three letters; an account may report others.
const MAX_CODE: usize = 12;
/// Sign for people: a real minus, which no line break separates from its number.
const MINUS: char = '\u{2212}';

/// A currency code. Codes of ISO 4217 are in upper case; others are kept and shown as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; MAX_CODE],
    len: u8,
}

/// Error for a text that is no currency code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a currency code: 1 to {MAX_CODE} ASCII letters or digits, such as USD")]
pub struct CurrencyError;

/// Error for a code that no account can have as its currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCurrency {
    /// The code is not in ISO 4217.
    #[error("not a currency code of ISO 4217")]
    NoSuchCode,
    /// The code stands for a metal, a unit of account, or no currency.
    #[error("{code} is not money: it stands for \"{name}\"")]
    NotMoney {
        /// Code in upper case.
        code: &'static str,
        /// Name in ISO 4217.
        name: String,
    },
}

impl Currency {
    /// Parses the code of a currency that an account can have. Stricter than [`Currency::parse`], which accepts whatever an account
    /// reports.
    pub fn parse_known(text: &str) -> Result<Self, UnknownCurrency> {
        let known = iso_currency::Currency::from_code(&text.to_ascii_uppercase()).ok_or(UnknownCurrency::NoSuchCode)?;
        if !is_money(known) {
            return Err(UnknownCurrency::NotMoney { code: known.code(), name: known.name().to_owned() });
        }
        Self::parse(text).map_err(|_| UnknownCurrency::NoSuchCode)
    }

    /// Returns the codes that [`Currency::parse_known`] accepts, the most common ones first.
    pub fn known_codes() -> impl Iterator<Item = &'static str> {
        use iso_currency::Currency as Iso;
        let common = [Iso::USD, Iso::EUR, Iso::GBP];
        let all = (0..=999).filter_map(Iso::from_numeric).filter(|currency| is_money(*currency));
        common.into_iter().chain(all).map(|currency| currency.code())
    }

    /// Parses a code such as `USD`.
    pub fn parse(text: &str) -> Result<Self, CurrencyError> {
        let fits = (1..=MAX_CODE).contains(&text.len());
        if !fits || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(CurrencyError);
        }
        let upper = text.to_ascii_uppercase();
        // The comparison with every code is slow, and not needed for codes in upper case, as the API reports them.
        let known = upper != text && iso_currency::Currency::from_code(&upper).is_some();
        let text = if known { upper.as_str() } else { text };
        let mut code = [0; MAX_CODE];
        code[..text.len()].copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).map_err(|_| CurrencyError)?;
        Ok(Self { code, len })
    }

    /// Returns the code as text.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Returns the number of decimals of amounts in this currency; 2 for codes that are not in ISO 4217.
    pub fn decimals(&self) -> usize {
        iso_currency::Currency::from_code(self.code()).and_then(iso_currency::Currency::exponent).map_or(2, usize::from)
    }
}

/// Returns `true` for currencies that people pay with.
fn is_money(currency: iso_currency::Currency) -> bool {
    !currency.is_special() && !currency.is_fund()
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Error for a text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text is not an optional minus, digits, and an optional point with digits.
    #[error("not a plain decimal number")]
    NotANumber,
    /// The number has more digits than any amount of money.
    #[error("more than {MAX_INTEGER_DIGITS} digits, or more than {MAX_DECIMALS} decimals")]
    TooLong,
}

/// Parses a plain decimal exactly: `2000`, `-569.00`, `1999.95`. Thousands separators, exponents, spaces, underscores and
/// digits other than ASCII are errors, so that no amount is misread.
pub fn parse_amount(text: &str) -> Result<Decimal, AmountError> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (integer, fraction) = match unsigned.split_once('.') {
        Some((_, "")) => return Err(AmountError::NotANumber),
        Some(parts) => parts,
        None => (unsigned, ""),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if integer.is_empty() || !digits(integer) || !digits(fraction) {
        return Err(AmountError::NotANumber);
    }
    let integer = integer.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if integer.len() > MAX_INTEGER_DIGITS || fraction.len() > MAX_DECIMALS {
        return Err(AmountError::TooLong);
    }
    let digits: String = [integer, fraction].concat();
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| AmountError::TooLong)? };
    let signed = if text.starts_with('-') { -mantissa } else { mantissa };
    let scale = u32::try_from(fraction.len()).map_err(|_| AmountError::TooLong)?;
    Decimal::try_from_i128_with_scale(signed, scale).map_err(|_| AmountError::TooLong)
}

/// Parses a JSON number exactly, including exponents (`12.5`, `1e3`).
pub fn parse_json_number(text: &str) -> Result<Decimal, AmountError> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return parse_amount(text) };
    let exponent: i32 = exponent.parse().map_err(|_| AmountError::TooLong)?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    if !mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(AmountError::NotANumber);
    }
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if exponent.unsigned_abs() > 40 || integer.len() + fraction.len() > 80 {
        return Err(AmountError::TooLong);
    }
    let digits = [integer, fraction].concat();
    let point = i32::try_from(integer.len()).map_err(|_| AmountError::TooLong)? + exponent;
    let shifted = match usize::try_from(point) {
        Ok(at) if at >= digits.len() => format!("{sign}{digits:0<at$}"),
        Ok(at) if at > 0 => format!("{sign}{}.{}", &digits[..at], &digits[at..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    };
    parse_amount(&shifted)
}

/// An amount of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub struct Money {
    /// Exact amount, without rounding.
    pub amount: Decimal,
    /// Currency of the amount.
    pub currency: Currency,
}

impl Money {
    /// Creates an amount of a currency.
    pub fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Formats the exact amount for programs, with at least the currency's decimals: `-1431.00`.
    pub fn plain(&self) -> String {
        plain(self.amount, Some(self.currency))
    }

    /// Formats the amount alone for people, with thousands separators and at least the currency's decimals: `−1,431.00`.
    pub fn figure(&self) -> String {
        figure(self.amount, self.currency.decimals())
    }
}

impl fmt::Display for Money {
    /// Formats the amount as `USD 1,431.00`, and a negative one as `USD −569.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency, self.figure())
    }
}

/// Serializes as `{ "amount": "1431.00", "currency": "USD" }`.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Money", 2)?;
        fields.serialize_field("amount", &self.plain())?;
        fields.serialize_field("currency", &self.currency)?;
        fields.end()
    }
}

/// Available funds of an account or division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvailableFunds {
    /// Exact amount that can be spent.
    Limited(Money),
    /// The balance may go below zero without limit.
    Unlimited,
}

/// Formats an amount exactly for programs, with at least the decimals of its currency, or 2 without a currency.
pub fn plain(amount: Decimal, currency: Option<Currency>) -> String {
    let mut amount = amount.normalize();
    let decimals = currency.map_or(2, |currency| currency.decimals());
    amount.rescale(amount.scale().max(u32::try_from(decimals).unwrap_or_default()));
    amount.to_string()
}

/// Formats an amount exactly with thousands separators and at least `decimals` decimals.
pub fn figure(amount: Decimal, decimals: usize) -> String {
    let plain = amount.abs().normalize().to_string();
    let (integer, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut text = String::with_capacity(plain.len() + plain.len() / 3 + 4);
    if amount.is_sign_negative() && !amount.is_zero() {
        text.push(MINUS);
    }
    for (i, digit) in integer.chars().enumerate() {
        if i > 0 && (integer.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if decimals > 0 || !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
        text.extend(std::iter::repeat_n('0', decimals.saturating_sub(fraction.len())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> String {
        Money::new(parse_amount(text).unwrap(), Currency::parse("USD").unwrap()).to_string()
    }

    #[test]
    fn money_is_written_exactly_with_its_currency_and_separators() {
        assert_eq!(usd("1431"), "USD 1,431.00");
        assert_eq!(usd("-569.00"), "USD \u{2212}569.00");
        assert_eq!(usd("1234567.8"), "USD 1,234,567.80");
        assert_eq!(usd("1999.955"), "USD 1,999.955");
        assert_eq!(usd("-0.00"), "USD 0.00");
        let of = |code: &str| Money::new(parse_amount("1500").unwrap(), Currency::parse(code).unwrap()).to_string();
        assert_eq!(of("JPY"), "JPY 1,500");
        assert_eq!(of("KWD"), "KWD 1,500.000");
        assert_eq!(of("credits"), "credits 1,500.00");
        assert_eq!(of("usd"), "USD 1,500.00");
        let plain = |text: &str| Money::new(parse_amount(text).unwrap(), Currency::parse("USD").unwrap()).plain();
        assert_eq!(["1431", "-569.0", "-0.00", "0.125"].map(plain), ["1431.00", "-569.00", "0.00", "0.125"]);
        let yen = Money::new(Decimal::from(1500), Currency::parse("JPY").unwrap());
        let json = serde_json::to_value(yen).unwrap();
        assert_eq!(json, serde_json::json!({ "amount": "1500", "currency": "JPY" }));
        assert_eq!(serde_json::from_value::<Money>(json).unwrap(), yen);
        assert_eq!(super::plain(Decimal::from(5), None), "5.00");
    }

    #[test]
    fn codes_that_stand_for_no_currency_are_not_known() {
        for code in ["USD", "eur", "JPY", "KWD", "XAF", "XOF", "XPF", "XCD"] {
            assert_eq!(Currency::parse_known(code).unwrap().code(), code.to_uppercase());
        }
        for code in ["XXX", "xts", "XAU", "XDR", "XBA", "BOV", "CLF", "USN"] {
            assert!(matches!(Currency::parse_known(code), Err(UnknownCurrency::NotMoney { .. })), "{code}");
        }
        for code in ["USDD", "US", "", "QQQ", "ЕUR", "credits"] {
            assert_eq!(Currency::parse_known(code), Err(UnknownCurrency::NoSuchCode), "{code}");
        }
        assert!(Currency::known_codes().all(|code| Currency::parse_known(code).is_ok()));
        assert!(Currency::known_codes().count() > 140);
    }

    #[test]
    fn a_text_that_is_no_plain_decimal_is_rejected() {
        for text in
            ["", "-", ".", ".5", "5.", "1,500.00", "1_000", "+5", " 5", "5 ", "1e3", "NaN", "inf", "５", "0x10", "--1"]
        {
            assert_eq!(parse_amount(text), Err(AmountError::NotANumber), "{text:?}");
        }
        assert_eq!(parse_amount(&"9".repeat(40)), Err(AmountError::TooLong));
        assert_eq!(parse_amount("0.123456789"), Err(AmountError::TooLong));
    }

    #[test]
    fn json_numbers_with_exponents_are_exact_or_refused() {
        let same = [
            ("12.5", "12.5"),
            ("1e3", "1000"),
            ("1.5E1", "15"),
            ("-25e-1", "-2.5"),
            ("1.25e1", "12.5"),
            ("5e-3", "0.005"),
        ];
        for (json, plain) in same {
            assert_eq!(parse_json_number(json).unwrap(), parse_amount(plain).unwrap(), "{json}");
        }
        for json in [".®E1", "١e1", "1.2.3e1"] {
            assert_eq!(parse_json_number(json), Err(AmountError::NotANumber), "{json}");
        }
        for json in ["1e400", "1e-400", "1e99999999999", "1e30"] {
            assert_eq!(parse_json_number(json), Err(AmountError::TooLong), "{json}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_survives_being_read_and_written(units in -999_999_999_999i64..=999_999_999_999, scale in 0u32..=8) {
            let amount = Decimal::new(units, scale);
            prop_assert_eq!(parse_amount(&amount.to_string()), Ok(amount));
            let written = figure(amount, 2).replace(',', "").replace(MINUS, "-");
            prop_assert_eq!(parse_amount(&written), Ok(amount));
        }

        #[test]
        fn reading_an_amount_never_panics(text in "\\PC{0,60}") {
            let _ = parse_amount(&text);
            let _ = parse_json_number(&text);
        }
    }
}
