//! The pages over HTTP, made from a broker and a JetStream engine in this process.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod http;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod views;
