//! What a simulation cannot know and has to be told: what the CPU does for each page, and what goes slowly by chance.

/// Costs of a submitting thread. The defaults were measured by `zfolio simulate --measure` (see benches/results); those that
/// cannot be measured so are marked as estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "CPU costs (--measure tells of this machine those that are measured)")]
pub(crate) struct Costs {
    /// A store call, whatever its size: slots locked, limits looked at, a channel borrowed (estimate)
    #[arg(long = "call-ns", value_name = "NS", default_value_t = Costs::DEFAULT.call)]
    pub(crate) call: u64,
    /// A page before it is submitted, submitting apart (estimate)
    #[arg(long = "prepare-ns", value_name = "NS", default_value_t = Costs::DEFAULT.prepare)]
    pub(crate) prepare: u64,
    /// Until a record that has come is seen by a thread that waits for it (estimate)
    #[arg(long = "poll-ns", value_name = "NS", default_value_t = Costs::DEFAULT.poll)]
    pub(crate) poll: u64,
    /// A stored page after that: judged, copied into the pool, published (measured)
    #[arg(long = "collect-ns", value_name = "NS", default_value_t = Costs::DEFAULT.collect)]
    pub(crate) collect: u64,
    /// All that a load costs beside the device and submitting (measured)
    #[arg(long = "load-ns", value_name = "NS", default_value_t = Costs::DEFAULT.load)]
    pub(crate) load: u64,
    /// Of each page, how long the list of its node is locked, for one thread at a time (estimate)
    #[arg(long = "list-ns", value_name = "NS", default_value_t = Costs::DEFAULT.list)]
    pub(crate) list: u64,
    /// A page in software, when no queue takes it (measured)
    #[arg(long = "software-ns", value_name = "NS", default_value_t = Costs::DEFAULT.software)]
    pub(crate) software: u64,
    /// By how much these vary from page to page, by chance, up and down (estimate)
    #[arg(long = "vary-percent", value_name = "PERCENT", default_value_t = Costs::DEFAULT.vary,
          value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) vary: u64,
}

impl Costs {
    /// On one virtual CPU of an AMD EPYC (Zen 5), memory of a live process.
    pub(crate) const DEFAULT: Costs = Costs {
        call: 200,
        prepare: 30,
        poll: 40,
        collect: 300,
        load: 190,
        list: 15,
        software: 4_700,
        vary: 20,
    };

    /// A thread that costs nothing: what remains is the device's time, and submitting's.
    #[cfg(test)]
    pub(crate) const NOTHING: Costs =
        Costs { call: 0, prepare: 0, poll: 0, collect: 0, load: 0, list: 0, software: 0, vary: 0 };
}

impl Default for Costs {
    fn default() -> Costs {
        Costs::DEFAULT
    }
}

/// What comes by chance and rarely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub(crate) struct Chances {
    /// Simulate misses of the devices' address cache: nanoseconds a miss (0: none; 200 to 400 is a guess)
    #[arg(long = "iotlb-miss-ns", value_name = "NS", default_value = "0")]
    pub(crate) iotlb_miss: u64,
    /// Pages that the address cache knows
    #[arg(long = "iotlb-pages", value_name = "N", default_value = "512")]
    pub(crate) iotlb_pages: usize,
    /// Descriptors of a million that meet a page that is not there, and block until it is
    #[arg(long = "faults-per-million", value_name = "N", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) faults: u64,
}
