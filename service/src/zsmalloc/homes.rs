//! On which nodes the pages of a node may lie.

use crate::config::Placement;

/// See the module.
pub(crate) struct Homes {
    /// By node index: the other nodes that its pages may lie on, the best first.
    substitutes: Box<[Box<[usize]>]>,
    dense: bool,
}

impl Homes {
    /// `substitutes` has, by node index, the other nodes that are no faster, the best first.
    pub(crate) fn new(placement: Placement, substitutes: &[Box<[usize]>]) -> Homes {
        let none = || substitutes.iter().map(|_| Box::default()).collect();
        Homes {
            substitutes: if placement == Placement::Bind { none() } else { substitutes.into() },
            dense: placement == Placement::Dense,
        }
    }

    /// May pages of `home` lie on `on`?
    pub(crate) fn allow(&self, home: usize, on: usize) -> bool {
        home == on || self.substitutes[home].contains(&on)
    }

    /// The other nodes that pages of `home` may lie on, the best first.
    pub(crate) fn substitutes(&self, home: usize) -> &[usize] {
        &self.substitutes[home]
    }

    /// True where a hole on another node is better than new memory.
    pub(crate) fn are_dense(&self) -> bool {
        self.dense
    }
}
