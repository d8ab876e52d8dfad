//! The log over a simulated disk: what is promised, under crashes and under damage.

mod basics;
mod crash;
mod damage;
mod model;
