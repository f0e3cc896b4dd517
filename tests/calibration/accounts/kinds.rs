//! Kinds of generated accounts, and their groups.

/// Spending behaviour of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountKind {
    /// The same rate every day.
    Steady,
    /// Working days only, one of them much busier.
    Weekly,
    /// Small orders, and a very large one every three to ten weeks.
    Lumpy,
    /// A yearly wave, 20 to 50 % above and below the mean.
    Seasonal,
    /// Orders that end in waves and are mostly renewed, besides new ones.
    RenewalWaves,
    /// 0.5 to 1.5 % more every week.
    Growing,
    /// 0.5 to 1.5 % less every week.
    Shrinking,
    /// A constant rate, and a batch of orders every quarter.
    QuarterlyBatch,
    /// Two to four weeks at two to three times the rate, every two to four months.
    CampaignBursts,
    /// The busy weekdays change once, in the last months.
    WeekdayShift,
    /// 1.5 to 2.5 times the rate since some day of the last months.
    StepUp,
    /// No orders for two weeks, at the same time each year.
    Holidays,
    /// An order every three to ten days, for at least half a year.
    Sparse,
    /// Four times the rate in the last five days of every thirty.
    MonthEnd,
    /// Up to 7 % more or less every week.
    Drifting,
    /// Half the rate, and every 14 days a batch worth 0.5 to 1.5 weeks.
    PayrollBatches,
    /// All orders of a week on one weekday.
    OneDayAWeek,
    /// A second account with weekly seasonality joins on some day of the last months.
    Merger,
    /// A campaign in the last months at two to five times the rate; half of the excess is gone every three weeks.
    FadingCampaign,
    /// Up to 4 % more or less every week, and a week or two with hardly any orders every two to four months.
    Vacations,
    /// Two to three times the rate for 45 days of each year.
    YearlyRush,
    /// Orders of very unequal price: most are small, a few cost as much as hundreds of others.
    UnequalOrders,
    /// Switches between two regimes, 1 and 2 to 3.5 times the rate, each of which lasts two to six months.
    RegimeSwitch,
    /// The same rate every day; all prices are 8 to 20 % higher since one of the last 10 to 120 days.
    PriceRise,
    /// Orders with ends spread over the year, most of them renewed, and some new ones.
    RenewalsSteady,
    /// Orders that end in four to eight waves a year of 10 to 40 each.
    RenewalsInWaves,
    /// Only 45 to 75 % of the orders are renewed, with hardly any new ones.
    RenewalsDeclining,
    /// List prices rise by 4 to 20 % on one day of each year.
    RenewalsWithPriceRises,
    /// As many new orders as renewals, most of them never renewed.
    EverySecondNew,
    /// A third of the orders each lasts one, two and three years.
    MultiYearMixed,
    /// Certificates last 199 days and are reissued within their orders; a few never are.
    ReissuesOf199Days,
    /// Ledger lines do not name their order.
    LedgerWithoutOrderIds,
    /// The account began 84 to 330 days ago, by migrating certificates or from nothing.
    YoungerThanAYear,
    /// Three to six divisions share one fund.
    SharedByDivisions,
    /// 20 to 60 % of the certificates are paid by card.
    PartlyPaidByCard,
    /// Domains are added to one order in five, and 3 % of the purchases are refunded.
    DomainsAndRefunds,
    /// Every order is renewed automatically 30 days before its end, or later if funds are too low that day.
    RenewalsByAutomation,
    /// 70 to 90 % of the orders end in the same four weeks of the year; they are renewed on Tuesdays.
    RenewalsInOneMonth,
    /// New orders grow by 2 to 4 % a week, and are renewed a year later.
    GrowingByRenewals,
    /// One renewal in three is for another product, one or two steps up or down the price list.
    ProductChange,
    /// On one day of the last year, the renewal share falls from 90–97 % to 50–70 %, or rises as much.
    ChangingShare,
    /// As many new orders as renewals, bought every few weeks 5 to 20 at a time for one product.
    RenewalsAndBatches,
    /// An agency: each product is for another client with its own renewal share and lead; some pay by card.
    RenewalsForClients,
    /// At the end of each month, one person renews what ends in the next 35 to 55 days, and catches up after
    /// holidays.
    RenewalsAtMonthEnd,
    /// Orders for 90, 100 or 199 days, renewed two to four times a year.
    OrdersOf90To199Days,
    /// At some renewals, one wildcard order replaces three to six orders for single names.
    WildcardsReplaceOrders,
    /// Orders of very unequal price; the larger ones are renewed earlier and more reliably. New ones are small.
    LargeOrdersRenewedEarly,
    /// 35 to 75 % of the renewals come after the end, up to 10 to 25 days late.
    RenewalsAfterTheEnd,
}

pub const TUNED: [AccountKind; 6] = [
    AccountKind::Steady,
    AccountKind::Weekly,
    AccountKind::Lumpy,
    AccountKind::Seasonal,
    AccountKind::RenewalWaves,
    AccountKind::Growing,
];

/// Kinds that were held out at first. The method was then changed for them, and is now tuned on them too.
pub const ONCE_HELD_OUT: [AccountKind; 12] = [
    AccountKind::Shrinking,
    AccountKind::QuarterlyBatch,
    AccountKind::CampaignBursts,
    AccountKind::WeekdayShift,
    AccountKind::StepUp,
    AccountKind::Holidays,
    AccountKind::Sparse,
    AccountKind::MonthEnd,
    AccountKind::Drifting,
    AccountKind::OneDayAWeek,
    AccountKind::FadingCampaign,
    AccountKind::YearlyRush,
];

/// Kinds that were written and measured once, after the method was final.
pub const HELD_OUT: [AccountKind; 4] =
    [AccountKind::PayrollBatches, AccountKind::Merger, AccountKind::Vacations, AccountKind::UnequalOrders];

/// Kinds without orders, written after the method for the others was final.
pub const CHANGING: [AccountKind; 2] = [AccountKind::RegimeSwitch, AccountKind::PriceRise];

/// Accounts that live on renewals.
pub const RENEWING: [AccountKind; 12] = [
    AccountKind::RenewalsSteady,
    AccountKind::RenewalsInWaves,
    AccountKind::RenewalsDeclining,
    AccountKind::RenewalsWithPriceRises,
    AccountKind::EverySecondNew,
    AccountKind::MultiYearMixed,
    AccountKind::ReissuesOf199Days,
    AccountKind::LedgerWithoutOrderIds,
    AccountKind::YoungerThanAYear,
    AccountKind::SharedByDivisions,
    AccountKind::PartlyPaidByCard,
    AccountKind::DomainsAndRefunds,
];

/// Accounts that live on renewals and were held out at first. The method was then changed for them.
pub const RENEWING_ONCE_HELD_OUT: [AccountKind; 9] = [
    AccountKind::RenewalsByAutomation,
    AccountKind::RenewalsInOneMonth,
    AccountKind::GrowingByRenewals,
    AccountKind::ProductChange,
    AccountKind::ChangingShare,
    AccountKind::RenewalsAndBatches,
    AccountKind::RenewalsAtMonthEnd,
    AccountKind::LargeOrdersRenewedEarly,
    AccountKind::RenewalsAfterTheEnd,
];

/// Accounts that live on renewals, written without knowledge of the method. Nothing was changed for them.
pub const RENEWING_HELD_OUT: [AccountKind; 3] =
    [AccountKind::RenewalsForClients, AccountKind::OrdersOf90To199Days, AccountKind::WildcardsReplaceOrders];

/// Returns the name of a kind in lower-case words, such as `renewal waves`.
pub fn name(kind: AccountKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        let goes_on =
            letter.is_lowercase() || (letter.is_ascii_digit() && name.ends_with(|it: char| it.is_ascii_digit()));
        name += if goes_on { "" } else { " " };
        name.push(letter.to_ascii_lowercase());
    }
    name.trim().replace("multi year", "multi-year")
}
