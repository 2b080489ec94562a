//! Whose time it is.

/// How time goes in a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// Time is the model's own: it goes on when someone pauses or submits. On one thread everything is
    /// deterministic.
    #[default]
    Stepped,
}
