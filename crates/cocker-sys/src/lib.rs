//! All `unsafe` of the std side.
#![deny(unsafe_op_in_unsafe_fn)]
