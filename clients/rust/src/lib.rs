#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answers;
mod blocking;
mod calls;
mod client;
mod error;
mod names;
#[cfg(feature = "proofs")]
mod proof;
#[cfg(feature = "token")]
mod token;
#[cfg(feature = "tokio")]
pub mod tokio;
mod wire;

pub use answers::*;
#[cfg(feature = "proofs")]
pub use blocking::Verified;
pub use blocking::{Client, Draft, Events, ImportMany, Keys, Pin, Scan, View};
pub use calls::{CommitOptions, DraftOptions, EventOptions, PinOptions, ScanOptions};
pub use error::{Error, Kind, Problem};
pub use names::{from_hex, hex, Hash, Key};
#[cfg(feature = "proofs")]
pub use proof::{Proven, Request, Statement};
pub use wire::{Options, Token};
