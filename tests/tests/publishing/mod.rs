//! What publishing can do beyond storing, each rule against both servers.

mod markers;
mod transforms;
