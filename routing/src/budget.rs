//! Money spent per calendar period, against the amounts that may be.
