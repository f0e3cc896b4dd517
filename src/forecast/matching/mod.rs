//! Matches debits to the orders that they paid for, and renewals to the orders that they renewed.
//!
//! Every match looks up its candidates by day, since accounts have tens of thousands of orders with one name, or with
//! one price and day.

mod payments;
mod renewals;

pub(super) use payments::paid_orders;
pub(super) use renewals::renewals;
