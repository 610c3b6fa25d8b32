//! The image that the Microkit tool makes of a description: how it is put together, and the judgement of it.

pub mod assemble;
pub mod capdl;
pub mod kernel;
pub mod policy;
mod reset;
pub mod rules;
