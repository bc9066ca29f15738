//! Grapevine.
