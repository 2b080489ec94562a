//! A plan as text, for command lines and for the seed that a failed test prints.
//!
//! Entries are separated by `;` or line ends; `#` starts a comment. An entry is `seed=N`, or a fault with its
//! argument after a colon, then when and to whom:
//!
//! ```text
//! seed=7; full p=0.01; late:5ms every=100 op=compress; page-fault:read nth=3 queue=0.1; status:0x24 burst=10+5
//! ```
//!
//! Without a word about when, it is always. What is printed can be read, and is the same plan again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use idxd_sys::opcode;

use super::{FaultPlan, Injection, Rule, When};
use crate::device::QueueId;

/// What is wrong with a plan's text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlanError {
    line: usize,
    column: usize,
    what: String,
}

impl fmt::Display for FaultPlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault plan, line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for FaultPlanError {}

const FAULTS: &str = "full, partial, not-permitted, page-fault:read|write, page-fault-always:read|write, status:CODE, \
                      error:CODE, never, late:TIME, flip-output, wrong-crc, output-too-large, duplicate:TIME, \
                      status-first, slow:TIMES, iotlb-miss:TIME, disable-queue, disable-device";
const WORDS: &str = "always, nth=N, every=N, burst=FIRST+COUNT, p=CHANCE, op=NAME, queue=DEVICE.QUEUE";
const OPCODES: [(&str, u8); 4] = [
    ("no-op", opcode::NOOP),
    ("compress", opcode::COMPRESS),
    ("decompress", opcode::DECOMPRESS),
    ("crc64", opcode::CRC64),
];
/// Longer than any deadline, and short enough that sums of them never overflow.
const LONGEST: Duration = Duration::from_secs(3600);

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<FaultPlan, FaultPlanError> {
        let mut plan = FaultPlan::none();
        for (line, content) in text.lines().enumerate() {
            let content = content.split('#').next().unwrap_or_default();
            let mut start = 0;
            for entry in content.split(';') {
                parse_entry(entry, &mut plan).map_err(|(word, what)| FaultPlanError {
                    line: line + 1,
                    column: content[..start + word].chars().count() + 1,
                    what,
                })?;
                start += entry.len() + 1;
            }
        }
        Ok(plan)
    }
}

/// Reads one entry into `plan`; an error has the place of its word.
fn parse_entry(entry: &str, plan: &mut FaultPlan) -> Result<(), (usize, String)> {
    let place = |word: &str| word.as_ptr().addr() - entry.as_ptr().addr();
    let mut words = entry.split_whitespace();
    let Some(first) = words.next() else { return Ok(()) };
    if let Some(seed) = first.strip_prefix("seed=") {
        plan.seed = number(seed).map_err(|what| (place(seed), what))?;
        return match words.next() {
            None => Ok(()),
            Some(word) => Err((place(word), format!("{word:?} after the seed; a `;` ends an entry"))),
        };
    }
    let fault = parse_fault(first).map_err(|what| (place(first), what))?;
    let mut rule = Rule::new(fault, When::Always);
    let mut timed = false;
    for word in words {
        parse_word(word, &mut rule, &mut timed).map_err(|what| (place(word), what))?;
    }
    plan.rules.push(rule);
    Ok(())
}

fn parse_fault(word: &str) -> Result<Injection, String> {
    let (name, argument) = match word.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (word, None),
    };
    let wanted =
        |what: &str| argument.ok_or_else(|| format!("{name} needs {what} after a colon, as in {name}:"));
    let write = || match wanted("`read` or `write`")? {
        "read" => Ok(false),
        "write" => Ok(true),
        other => Err(format!("{name} is of `read` or `write`, not {other:?}")),
    };
    let code = |what: &str| {
        u8::try_from(number(wanted(what)?)?)
            .map_err(|_| format!("{what} is a byte, not {}", argument.unwrap_or("")))
    };
    let injection = match name {
        "page-fault" => Injection::PageFault { write: write()? },
        "page-fault-always" => Injection::PageFaultAlways { write: write()? },
        "status" => match code("a status")? {
            0 => return Err("status 0 means that the descriptor still runs; use `never`".to_owned()),
            code => Injection::Status(code),
        },
        "error" => Injection::Error(code("an error code")?),
        "late" => Injection::Late(duration(wanted("a time")?)?),
        "duplicate" => Injection::Duplicate(argument.map_or(Ok(Duration::ZERO), duration)?),
        "iotlb-miss" => Injection::IotlbMiss(duration(wanted("a time")?)?),
        "slow" => match number(wanted("how many times")?)? {
            times @ 1..=1_000_000 => Injection::Slow(times as u32),
            times => return Err(format!("{times} times as slow; it must be 1 to 1000000")),
        },
        _ => {
            let plain = match name {
                "full" => Injection::Full,
                "partial" => Injection::Partial,
                "not-permitted" => Injection::NotPermitted,
                "never" => Injection::Never,
                "flip-output" => Injection::FlipOutput,
                "wrong-crc" => Injection::WrongCrc,
                "output-too-large" => Injection::OutputTooLarge,
                "status-first" => Injection::StatusFirst,
                "disable-queue" => Injection::DisableQueue,
                "disable-device" => Injection::DisableDevice,
                _ => return Err(format!("unknown fault {name:?}; known are: {FAULTS}")),
            };
            if argument.is_some() {
                return Err(format!("{name} takes no argument"));
            }
            plain
        }
    };
    Ok(injection)
}

fn parse_word(word: &str, rule: &mut Rule, timed: &mut bool) -> Result<(), String> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let positive = |text: &str| match number(text)? {
        0 => Err("descriptors are counted from 1".to_owned()),
        n => Ok(n),
    };
    let when = match key {
        "op" => {
            let known = OPCODES.into_iter().find(|&(name, _)| name == value).map(|(_, opcode)| opcode);
            let known = known.or_else(|| number(value).ok().and_then(|code| u8::try_from(code).ok()));
            let names = "no-op, compress, decompress, crc64, or a number";
            rule.opcode =
                Some(known.ok_or_else(|| format!("unknown operation {value:?}; known are: {names}"))?);
            return Ok(());
        }
        "queue" => {
            let id = value
                .split_once('.')
                .and_then(|(device, queue)| Some(QueueId::new(device.parse().ok()?, queue.parse().ok()?)));
            rule.queue = Some(id.ok_or_else(|| format!("a queue is DEVICE.QUEUE, as 0.1, not {value:?}"))?);
            return Ok(());
        }
        "always" if value.is_empty() => When::Always,
        "nth" => When::Nth(positive(value)?),
        "every" => When::Every(positive(value)?),
        "burst" => {
            let (first, count) = value
                .split_once('+')
                .ok_or_else(|| format!("a burst is FIRST+COUNT, as burst=10+5, not {value:?}"))?;
            When::Burst { first: positive(first)?, count: number(count)? }
        }
        "p" => When::Chance(chance(value)?),
        _ => return Err(format!("unknown word {word:?}; known are: {WORDS}")),
    };
    if std::mem::replace(timed, true) {
        return Err(format!("{word:?}: it has been said already when"));
    }
    rule.when = when;
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

/// A chance in millionths.
fn chance(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a chance from 0 to 1 of at most six decimals");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 6 {
        return Err(wrong());
    }
    let millionths: u32 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    match (whole.parse::<u32>().map_err(|_| wrong())?, millionths) {
        (0, _) => Ok(millionths),
        (1, 0) => Ok(1_000_000),
        _ => Err(wrong()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write 300ns, 20us, 5ms or 1s");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let count: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let scale = match &text[unit..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    match count.checked_mul(scale).map(Duration::from_nanos) {
        Some(time) if time <= LONGEST => Ok(time),
        _ => Err(format!("{text:?} is longer than an hour")),
    }
}

struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
        let (scale, unit) = units
            .into_iter()
            .find(|(scale, _)| nanos != 0 && nanos.is_multiple_of(*scale))
            .unwrap_or((1, "ns"));
        write!(f, "{}{unit}", nanos / scale)
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = |write| if write { "write" } else { "read" };
        match *self {
            Injection::Full => f.write_str("full"),
            Injection::Partial => f.write_str("partial"),
            Injection::NotPermitted => f.write_str("not-permitted"),
            Injection::PageFault { write } => write!(f, "page-fault:{}", direction(write)),
            Injection::PageFaultAlways { write } => write!(f, "page-fault-always:{}", direction(write)),
            Injection::Status(code) => write!(f, "status:{code:#04x}"),
            Injection::Error(code) => write!(f, "error:{code}"),
            Injection::Never => f.write_str("never"),
            Injection::Late(by) => write!(f, "late:{}", Time(by)),
            Injection::FlipOutput => f.write_str("flip-output"),
            Injection::WrongCrc => f.write_str("wrong-crc"),
            Injection::OutputTooLarge => f.write_str("output-too-large"),
            Injection::Duplicate(after) => write!(f, "duplicate:{}", Time(after)),
            Injection::StatusFirst => f.write_str("status-first"),
            Injection::Slow(times) => write!(f, "slow:{times}"),
            Injection::IotlbMiss(time) => write!(f, "iotlb-miss:{}", Time(time)),
            Injection::DisableQueue => f.write_str("disable-queue"),
            Injection::DisableDevice => f.write_str("disable-device"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        match self.when {
            When::Always => {}
            When::Nth(n) => write!(f, " nth={n}")?,
            When::Every(n) => write!(f, " every={n}")?,
            When::Burst { first, count } => write!(f, " burst={first}+{count}")?,
            When::Chance(1_000_000) => f.write_str(" p=1")?,
            When::Chance(millionths) => {
                let decimals = format!("{millionths:06}");
                let decimals = decimals.trim_end_matches('0');
                write!(f, " p=0.{}", if decimals.is_empty() { "0" } else { decimals })?;
            }
        }
        if let Some(opcode) = self.opcode {
            match OPCODES.into_iter().find(|&(_, code)| code == opcode) {
                Some((name, _)) => write!(f, " op={name}")?,
                None => write!(f, " op={opcode:#04x}")?,
            }
        }
        match self.queue {
            Some(queue) => write!(f, " queue={queue}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.rules.iter().try_for_each(|rule| write!(f, "; {rule}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<FaultPlan>().unwrap_err().to_string()
    }

    #[test]
    fn plan_is_read_as_it_is_written() {
        let text = "seed=7; full p=0.01  # a comment; not an entry\n\n late:5ms every=100 op=compress;\
                    page-fault:read nth=3 queue=0.1; status:0x24 burst=10+5 op=0x50; duplicate; slow:10 p=1";
        let plan: FaultPlan = text.parse().unwrap();
        let expected = "seed=7; full p=0.01; late:5ms every=100 op=compress; page-fault:read nth=3 queue=0.1; \
                        status:0x24 burst=10+5 op=0x50; duplicate:0ns; slow:10 p=1";
        assert_eq!(plan.to_string(), expected);
        assert_eq!(plan.rules[1].fault, Injection::Late(Duration::from_millis(5)));
        assert_eq!(plan.to_string().parse::<FaultPlan>().unwrap(), plan);
        assert_eq!("".parse::<FaultPlan>().unwrap(), FaultPlan::none());
    }

    #[test]
    fn every_random_plan_is_read_back_the_same() {
        for seed in 0..2000 {
            let plan = FaultPlan::random(seed);
            assert_eq!(plan.to_string().parse::<FaultPlan>().unwrap(), plan, "{plan}");
        }
    }

    #[test]
    fn error_says_what_and_where() {
        assert!(error("seed=1;\n full; pagefault p=1").starts_with(
            "fault plan, line 2, column 8: unknown fault \"pagefault\"; known are: full, partial, "
        ));
        assert_eq!(
            error("late nth=1"),
            "fault plan, line 1, column 1: late needs a time after a colon, as in late:"
        );
        assert_eq!(error("full nth=0"), "fault plan, line 1, column 6: descriptors are counted from 1");
        assert!(error("full p=1.5").ends_with("\"1.5\" is not a chance from 0 to 1 of at most six decimals"));
        assert!(error("late:5").ends_with("\"5\" is not a time; write 300ns, 20us, 5ms or 1s"));
        assert!(error("late:5000s").ends_with("\"5000s\" is longer than an hour"));
        assert!(error("full nth=1 p=0.5").ends_with("\"p=0.5\": it has been said already when"));
        assert!(error("status:300").ends_with("a status is a byte, not 300"));
        assert!(error("status:0").contains("use `never`"));
        assert!(error("full op=scan").contains("unknown operation \"scan\""));
        assert!(error("full queue=1").contains("as 0.1, not \"1\""));
        assert!(error("seed=x").ends_with("column 6: \"x\" is not a number"));
        assert!(error("full:3").ends_with("full takes no argument"));
        assert!(error("seed=3 full").contains("a `;` ends an entry"));
    }

    #[test]
    fn any_text_is_a_plan_or_an_error() {
        let alphabet: Vec<char> = "seed=1;:pxfullate0.9 +#\nä#".chars().collect();
        for seed in 0..20_000u64 {
            let text: String = (0..seed % 24)
                .map(|k| alphabet[(crate::random::mix(seed << 8 | k) % alphabet.len() as u64) as usize])
                .collect();
            if let Ok(plan) = text.parse::<FaultPlan>() {
                assert_eq!(plan.to_string().parse::<FaultPlan>(), Ok(plan));
            }
        }
    }
}
