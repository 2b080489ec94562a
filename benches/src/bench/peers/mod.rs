//! `zfolio bench peers`: the store beside others that keep pages compressed in memory, on the same pages in one run.
//!
//! Every peer makes a round in turn, in an order that turns round from round to round; every page that comes back is
//! compared. What a peer needs and the machine lacks leaves that peer out, by name.

mod codec;
mod library;
mod nbd;
mod peer;
mod region;
mod report;
mod store;
mod zram;
mod zswap;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use zfolio_accel::{Method, PAGE_SIZE, PageBytes};
use zfolio_fallback::Codecs;

use self::codec::{Alone, Bare};
use self::library::{Lz4, Zstd};
use self::nbd::Nbdkit;
use self::peer::{Course, Peer, Round};
use self::store::Store;
use self::zram::Zram;
use self::zswap::Zswap;
use super::jsonl::JsonLines;
use super::variant::{CodecChoice, Variant};
use super::worker::Faults;
use super::{BenchError, MAX_PAGES, Setup};
use crate::corpus::Corpus;
use crate::interrupt::{self, Interrupt};
use crate::os;
use crate::progress::Progress;

/// Arguments of `zfolio bench peers`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Race the store against Linux zram and zswap, nbdkit and bare codecs on the same pages",
    after_help = "\
One thread; pages are stored one by one in order, loaded in order and loaded at random. The store also takes folios of 64 KiB and
gives 16 pages at random with a call of load_batch; its load at random gives pages up, its load in order keeps them, as
zram's both do. Figures are pages a second of CPU time, that of the kernel and of helper processes included, and memory with
the metadata that belongs to it. Rounds of all peers are interleaved, and every page that comes back is compared.

liblz4 and libzstd are raced where the machine has them, nbdkit where it is installed. zram needs root and a device of
your own; zswap needs a kernel that is set up for it: ci/peers.sh does both, and sets all back.

JSON lines: the rounds of each peer as zfolio bench has them, and the comparisons of each codec of the store with each peer.

Exit codes: as of zfolio bench."
)]
pub(crate) struct PeersArgs {
    /// Pages to race with, as `zfolio capture` writes them; may be given again
    #[arg(long, value_name = "FILE.pages")]
    corpus: Vec<PathBuf>,
    /// Repeat or cut each corpus to this many pages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_PAGES))]
    pages: Option<u64>,
    /// Rounds of each peer; nine are the fewest that say anything
    #[arg(long, value_name = "N", default_value = "12", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Codecs of the store [default: lz4 and, where the CPU is made for it, vw]; may be given again
    #[arg(long, value_enum)]
    codec: Vec<CodecChoice>,
    /// An unused zram device, which is reset before and after each round
    #[arg(long, value_name = "DEVICE")]
    zram: Option<PathBuf>,
    /// Race zswap of the running kernel, which has to be enabled
    #[arg(long)]
    zswap: bool,
    /// Race the store and the kernel only
    #[arg(long)]
    kernel_only: bool,
    /// Stay on one CPU
    #[arg(long)]
    pin: bool,
    /// Write the results to this file as JSON lines too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A peer and its rounds.
struct Raced<'v> {
    peer: Box<dyn Peer + 'v>,
    rounds: Vec<Round>,
    /// The store itself.
    own: bool,
}

impl Raced<'_> {
    fn name(&self) -> String {
        match self.peer.backend() {
            codec::BACKEND => format!("{} alone", self.peer.codec()),
            _ if self.own => format!("{} of zfolio", self.peer.codec()),
            backend => format!("{} of {backend}", self.peer.codec()),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &PeersArgs, interrupt: &Interrupt) -> Result<ExitCode, BenchError> {
    let setup = Setup {
        pages: args.pages,
        backend: super::BackendChoice::Software,
        folio_pages: 1,
        rounds: args.rounds,
        pins: super::pins(args.pin, 1).map_err(BenchError::Sides)?,
        ..Setup::standard()
    };
    if let [cpu] = setup.pins.as_slice() {
        os::run_on(&[*cpu]).map_err(BenchError::Threads)?;
    }
    let json_error = |error| BenchError::Json { path: args.json.clone().unwrap_or_default(), error };
    let mut progress = Progress::new();
    let Some(corpora) = super::corpora(&args.corpus, interrupt, &mut progress)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    corpora.iter().try_for_each(|corpus| super::check(&setup, corpus))?;
    let mut json = JsonLines::new(args.json.as_deref().map(File::create).transpose().map_err(json_error)?);
    let mut printed = crate::print(&report::header(&setup)).is_ok();
    let mut faults = Faults::default();
    for (place, mut corpus) in corpora.into_iter().enumerate() {
        let pages = setup.pages.unwrap_or(corpus.facts.pages);
        corpus.arrange(pages, 1);
        let variants = variants(args, &setup, pages as u32)?;
        let (mut raced, left_out) = peers(args, &setup, &variants);
        if place == 0 {
            printed &= crate::print(&report::peers(&raced, &left_out)).is_ok();
        }
        let mut aligned = Aligned::of(&corpus, pages as u32);
        let mut course = Course::new(aligned.pages(), interrupt);
        'rounds: for number in 1..=setup.rounds {
            let mut order: Vec<usize> = (0..raced.len()).collect();
            if number % 2 == 0 {
                order.reverse();
            }
            for index in order {
                let Raced { peer, rounds, .. } = &mut raced[index];
                if number > peer.last_round() {
                    continue;
                }
                progress.show(&format!(
                    "{}, {} {}, round {number} of {}",
                    corpus.name,
                    peer.codec(),
                    peer.backend(),
                    setup.rounds
                ));
                let round = course.round(peer.as_mut(), number).map_err(BenchError::Peer)?;
                let Some(round) = round else { break 'rounds };
                let line = report::round(&setup, &corpus, &variants[0], peer.as_ref(), &round);
                json.value(&line).map_err(json_error)?;
                faults.add(round.faults.clone());
                rounds.push(round);
            }
        }
        progress.clear();
        for line in report::comparisons(&corpus, &raced) {
            json.value(&line).map_err(json_error)?;
        }
        printed &= crate::print(&report::block(&corpus, pages, &raced)).is_ok();
        if interrupt.raised() {
            break;
        }
    }
    super::tell_faults(&faults);
    Ok(match (faults.any(), interrupt.raised(), printed) {
        (true, ..) | (_, _, false) => ExitCode::FAILURE,
        (_, true, _) => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}

/// The stores to race.
fn variants(args: &PeersArgs, setup: &Setup, pages: u32) -> Result<Vec<Variant>, BenchError> {
    let mut codecs = args.codec.clone();
    if codecs.is_empty() {
        codecs.push(CodecChoice::Lz4);
        if Method::best().0 == Method::Vw {
            codecs.push(CodecChoice::Vw);
        }
    }
    codecs.into_iter().map(|codec| Variant::open_one(&setup.with_codec(codec), pages)).collect()
}

/// All peers that this machine has, and why others are left out.
fn peers<'v>(
    args: &PeersArgs,
    setup: &Setup,
    variants: &'v [Variant],
) -> (Vec<Raced<'v>>, Vec<(&'static str, String)>) {
    let own = variants.iter().map(|variant| Raced {
        peer: Box::new(Store::new(variant, setup.nid)),
        rounds: Vec::new(),
        own: true,
    });
    let mut raced: Vec<Raced<'v>> = own.collect();
    let mut left_out = Vec::new();
    let mut race = |name: &'static str, peers: Result<Vec<Box<dyn Peer>>, String>| match peers {
        Ok(peers) => {
            raced.extend(peers.into_iter().map(|peer| Raced { peer, rounds: Vec::new(), own: false }));
        }
        Err(reason) => left_out.push((name, reason)),
    };
    let one = |peer: Box<dyn Peer>| vec![peer];
    race(
        "zram",
        match &args.zram {
            Some(device) => Zram::all(device)
                .map(|all| all.into_iter().map(|zram| -> Box<dyn Peer> { Box::new(zram) }).collect()),
            None => Err("no device was given (--zram)".to_owned()),
        },
    );
    race(
        "zswap",
        if args.zswap {
            Zswap::new().map(|zswap| one(Box::new(zswap)))
        } else {
            Err("not asked for (--zswap)".to_owned())
        },
    );
    if args.kernel_only {
        return (raced, left_out);
    }
    race("nbdkit", Nbdkit::new().map(|nbdkit| one(Box::new(nbdkit))));
    let alone = |bare: Bare| one(Box::new(Alone::new(bare)));
    for variant in variants {
        race("codec", Ok(alone(Bare::Own(variant.method, Box::new(Codecs::new())))));
    }
    race("liblz4", Lz4::load().map(|library| alone(Bare::Lz4(library))));
    race("libzstd", Zstd::load().map(|library| alone(Bare::Zstd(library, -1))));
    (raced, left_out)
}

/// A copy of the pages at addresses that devices take.
struct Aligned(Vec<u8>);

impl Aligned {
    fn of(corpus: &Corpus, pages: u32) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity((pages as usize + 1) * PAGE_SIZE);
        let source = corpus.arranged();
        bytes.resize(bytes.as_ptr().align_offset(PAGE_SIZE), 0);
        (0..pages).for_each(|number| bytes.extend_from_slice(source.page(number)));
        Self(bytes)
    }

    fn pages(&mut self) -> &[PageBytes] {
        let padding = self.0.len() % PAGE_SIZE;
        self.0[padding..].as_chunks().0
    }
}
