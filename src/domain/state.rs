//! What is remembered between cycles: alerts and what is owed. Pure operations on it.
