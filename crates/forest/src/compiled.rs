//! A forest in the layout that answers rows fast.

pub mod layout;
pub mod walk;
