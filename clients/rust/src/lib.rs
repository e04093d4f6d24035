#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod answers;
mod blocking;
mod calls;
mod client;
mod config;
mod error;
mod json;
mod leases;
mod names;
#[cfg(feature = "proofs")]
mod proof;
mod streams;
#[cfg(feature = "token")]
mod token;
#[cfg(feature = "tokio")]
pub mod tokio;
mod views;
mod wire;

pub use answers::*;
#[cfg(feature = "proofs")]
pub use blocking::Verified;
pub use blocking::{Client, Draft, Events, ImportMany, Keys, Pin, Scan, View};
pub use calls::{CommitOptions, DraftOptions, EventOptions, PinOptions, ScanOptions};
#[cfg(feature = "proofs")]
pub use calls::{Keep, Shard, Spec};
pub use config::{Options, Token};
pub use error::{Error, Kind, Problem};
pub use names::{from_hex, hex, Hash, Key};
#[cfg(feature = "proofs")]
pub use proof::{Proven, Request, Statement};
