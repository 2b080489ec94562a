//! Plans made up from a seed, for campaigns.

use std::time::Duration;

use idxd_sys::{opcode, status};

use super::{FaultPlan, Injection, Rule, When};
use crate::random::mix;

/// Random numbers from a seed.
struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.thrown += 1;
        mix(mix(self.seed) ^ self.thrown) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

impl FaultPlan {
    /// A plan of one to five rules, made up from `seed`: any fault that a driver can be expected to survive.
    ///
    /// That leaves out a record that is written a second time after its reader has gone on ([`Injection::Duplicate`]
    /// after a while), which nobody can tell from the next descriptor's; and a wrong CRC is told of compressing or of
    /// decompressing, not of both, or two wrongs might make a right.
    pub fn random(seed: u64) -> FaultPlan {
        let mut dice = Dice { seed, thrown: 0 };
        let wrong_crc_of = dice.one_of(&[opcode::COMPRESS, opcode::DECOMPRESS]);
        let rules = 1 + dice.below(5);
        let rules = (0..rules).map(|_| {
            let fault = injection(&mut dice);
            let when = when(&mut dice, fault);
            let any = [None, Some(opcode::COMPRESS), Some(opcode::DECOMPRESS)];
            let opcode = match fault {
                Injection::WrongCrc => Some(wrong_crc_of),
                // What is turned after the device has taken the CRC shows only when someone takes it again.
                Injection::FlipOutput => Some(opcode::COMPRESS),
                _ => dice.one_of(&any),
            };
            Rule { fault, when, opcode, queue: None }
        });
        FaultPlan::new(seed, rules.collect::<Vec<_>>())
    }

    /// Whether it makes records that say success and are wrong, so that a driver has to verify what it compressed.
    pub fn deceives(&self) -> bool {
        let deceives = |rule: &Rule| matches!(rule.fault, Injection::FlipOutput | Injection::WrongCrc);
        self.rules.iter().any(deceives)
    }
}

fn injection(dice: &mut Dice) -> Injection {
    let write = dice.below(2) == 1;
    match dice.below(20) {
        0 | 1 => Injection::Full,
        2 => Injection::Partial,
        3 => Injection::NotPermitted,
        4 | 5 => Injection::PageFault { write },
        6 => Injection::PageFaultAlways { write },
        7 => Injection::Status(dice.one_of(&[
            status::PAGE_REQUEST_INVALID,
            status::OUTPUT_OVERFLOW,
            status::BAD_OPCODE,
            status::BAD_TRANSFER_SIZE,
            status::HARDWARE_FIRST,
            0x20,
            0x21,
            0x22,
            status::PAGE_REQUEST_TIMEOUT,
            status::WATCHDOG,
            0x7f,
            0xff,
        ])),
        8 => Injection::Error(dice.below(37) as u8),
        9 | 10 => Injection::Never,
        11 | 12 => {
            // Around a driver's deadline, and far beyond it.
            let micros = dice.one_of(&[20, 500, 1_000, 2_000, 10_000, 100_000]) + dice.below(500);
            Injection::Late(Duration::from_micros(micros))
        }
        13 => Injection::FlipOutput,
        14 => Injection::WrongCrc,
        15 => Injection::OutputTooLarge,
        16 => Injection::Duplicate(Duration::ZERO),
        17 => Injection::StatusFirst,
        18 => dice.one_of(&[
            Injection::Slow(10),
            Injection::Slow(1000),
            Injection::IotlbMiss(Duration::from_micros(3)),
        ]),
        _ => dice.one_of(&[Injection::DisableQueue, Injection::DisableDevice]),
    }
}

fn when(dice: &mut Dice, fault: Injection) -> When {
    let first = 1 + dice.below(100);
    match (dice.below(5), fault) {
        // A queue that is disabled over and over is off from the first time.
        (_, Injection::DisableQueue | Injection::DisableDevice) | (0, _) => When::Nth(first),
        (1, _) => When::Every(2 + dice.below(20)),
        (2, _) => When::Burst { first, count: 1 + dice.below(60) },
        (3, _) if dice.below(4) == 0 => When::Always,
        _ => When::Chance(dice.one_of(&[1_000, 10_000, 100_000, 300_000])),
    }
}
