//! What the doctor says: sixteen findings, each with at most one cause and one command, and what they come to.

use std::fmt;

/// The checks, in order. Each adds one finding.
const CHECKS: [&str; 16] = [
    "CPU instructions",
    "PCI devices",
    "idxd driver",
    "kernel",
    "IOMMU and PASID",
    "devices enabled",
    "queue owners",
    "queue settings",
    "queue files",
    "open",
    "submission",
    "no-op",
    "page round trip",
    "queue limits",
    "packages",
    "vendor libraries",
];

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// Works, and could be better, or is worth knowing.
    Note,
    /// Keeps IAA from being used.
    Bad,
    /// Not examined, since an earlier check says that there is nothing to examine.
    Skipped,
}

impl Verdict {
    /// The word for it in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "bad",
            Verdict::Skipped => "skipped",
        }
    }
}

/// What stands between this machine and its IAA: the class of the first bad finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub(super) enum Class {
    /// Nothing: IAA can be used.
    #[default]
    Ready,
    /// There is no device.
    Hardware,
    /// The kernel or its command line.
    Kernel,
    /// Devices or work queues are not configured for user space.
    Configuration,
    /// The caller's rights.
    Rights,
    /// A work queue that can be opened does not do its work.
    Device,
}

impl Class {
    /// The word for it in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Class::Ready => "ready",
            Class::Hardware => "hardware",
            Class::Kernel => "kernel",
            Class::Configuration => "configuration",
            Class::Rights => "rights",
            Class::Device => "device",
        }
    }

    /// The exit code of `zfolio doctor`: 0 when IAA can be used; 1 and 2 are left to errors of the program and of
    /// its arguments.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Class::Ready => 0,
            Class::Hardware => 3,
            Class::Kernel => 4,
            Class::Configuration => 5,
            Class::Rights => 6,
            Class::Device => 7,
        }
    }

    /// What it means, in a sentence.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Class::Ready => "IAA can be used",
            Class::Hardware => "this machine has no IAA that the kernel sees",
            Class::Kernel => "the kernel does not offer IAA to user space",
            Class::Configuration => "no work queue is configured for user space",
            Class::Rights => "the work queues are there, and this user may not use them",
            Class::Device => "a work queue can be opened and does not do its work",
        }
    }
}

/// One of the checks and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its place in the order, from 1.
    pub number: u8,
    /// What was examined.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The likeliest cause, where it is not good.
    pub cause: Option<String>,
    /// One command that helps, or shows more.
    pub command: Option<String>,
}

/// All findings, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// What they come to.
    pub class: Class,
}

impl Report {
    pub(super) fn good(&mut self, found: impl Into<String>) {
        self.push(Verdict::Good, found.into(), None, None);
    }

    pub(super) fn note(&mut self, found: impl Into<String>, cause: &str, command: &str) {
        self.push(Verdict::Note, found.into(), some(cause), some(command));
    }

    /// A finding of `class`; the first of them decides the report's.
    pub(super) fn bad(&mut self, class: Class, found: impl Into<String>, cause: &str, command: &str) {
        if self.class == Class::Ready {
            self.class = class;
        }
        self.push(Verdict::Bad, found.into(), some(cause), some(command));
    }

    /// Skips the checks up to the one of this number.
    pub(super) fn skip_to(&mut self, number: usize, why: &str) {
        while self.findings.len() < number {
            self.push(Verdict::Skipped, why.to_owned(), None, None);
        }
    }

    fn push(&mut self, verdict: Verdict, found: String, cause: Option<String>, command: Option<String>) {
        let check = CHECKS[self.findings.len()];
        let number = u8::try_from(self.findings.len() + 1).expect("there are sixteen checks");
        self.findings.push(Finding { number, check, verdict, found, cause, command });
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.findings.as_slice();
        while let [finding, ..] = rest {
            // Checks that were skipped for the same reason share a line.
            let alike = |other: &&Finding| other.verdict == Verdict::Skipped && other.found == finding.found;
            let (same, after) = rest.split_at(rest.iter().take_while(alike).count().max(1));
            rest = after;
            let checks: Vec<&str> = same.iter().map(|finding| finding.check).collect();
            let Finding { number, verdict, found, cause, command, .. } = finding;
            writeln!(f, "{number:>2}  {:<7}  {}: {found}", verdict.name(), checks.join(", "))?;
            if let Some(cause) = cause {
                writeln!(f, "             why: {cause}")?;
            }
            if let Some(command) = command {
                writeln!(f, "             try: {command}")?;
            }
        }
        write!(f, "\n{}.", self.class.meaning())
    }
}
