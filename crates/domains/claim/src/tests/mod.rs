//! The whole core against a TCP stack, a WebSocket and a Noise that others wrote, and against raw frames.

mod admin;
mod claims;
mod doors;
mod exchanges;
mod frames;
mod handshake;
mod keystore;
mod lifecycle;
mod peer;
mod random;
mod world;
