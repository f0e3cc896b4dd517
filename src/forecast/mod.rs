//! Ledger and orders → what lies ahead. Pure, as the domain is: `now` is an argument, chance is seeded, and no floating
//! point touches an amount.
