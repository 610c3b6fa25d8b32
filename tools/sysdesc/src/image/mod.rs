//! The image that the Microkit tool makes of a description: what it is made of, and the judgement of it.

pub mod capdl;
pub mod kernel;
pub mod policy;
pub mod rules;
