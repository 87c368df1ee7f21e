//! Names of constants.
