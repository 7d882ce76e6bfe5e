//! Templates of a container become files: keys are replaced by values.

mod places;
mod replacement;
mod rules;
