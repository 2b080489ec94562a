//! The store's figures as Prometheus reads them: text, a line for each figure of the store, of a node, of a tenant.

use std::fmt::{self, Write as _};

use crate::stats::{NodeStats, Stats};
use crate::tenant::TenantStats;
use crate::zswap::Zswap;

/// Name, kind, what it says, and the figure.
type Figure = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

const FIGURES: &[Figure] = &[
    ("stored_pages", "gauge", "Pages in the store.", |s| s.stored_pages),
    ("zero_pages", "gauge", "Pages of zeros in the store.", |s| s.zero_pages),
    ("same_filled_pages", "gauge", "Other pages that one word fills.", |s| s.same_filled_pages),
    ("stored_incompressible_pages", "gauge", "Pages kept as they are.", |s| s.stored_incompressible_pages),
    ("misplaced_pages", "gauge", "Pages not on the node they came from.", |s| s.misplaced_pages),
    ("misplaced_bytes", "gauge", "Compressed bytes of pages not on their node.", |s| s.misplaced_bytes),
    ("on_device_pages", "gauge", "Pages written back and not taken since.", |s| s.on_device_pages),
    ("object_bytes", "gauge", "Compressed bytes.", |s| s.object_bytes),
    ("pool_total_size", "gauge", "Bytes of memory of the pool.", |s| s.pool_bytes),
    ("warm_bytes", "gauge", "Bytes of the pool that are empty.", |s| s.warm_bytes),
    ("metadata_bytes", "gauge", "Bytes of bookkeeping.", |s| s.metadata_bytes),
    ("zswpout", "counter", "Pages stored.", |s| s.pages_out),
    ("zswpin", "counter", "Pages loaded or read.", |s| s.pages_in),
    ("zswpout_same_filled", "counter", "Those stored that one word fills.", |s| s.same_filled_pages_out),
    ("zswpin_same_filled", "counter", "Those loaded or read that one word fills.", |s| {
        s.same_filled_pages_in
    }),
    ("zswpwb", "counter", "Pages written back.", |s| s.written_back_pages),
    ("written_back_pages", "counter", "Pages written back.", |s| s.written_back_pages),
    ("reject_reclaim_fail", "counter", "Writebacks that failed.", |s| s.reject_reclaim_fail),
    ("reclaim_races", "counter", "Writebacks of pages that were taken meanwhile.", |s| s.reclaim_races),
    ("device_reads", "counter", "Pages read from swap devices.", |s| s.device_reads),
    ("device_writes", "counter", "Pages written past the store.", |s| s.device_writes),
    ("pool_limit_hit", "counter", "How often a limit was hit.", |s| s.pool_limit_hit),
    ("reject_full", "counter", "Stores refused for a limit.", |s| s.reject_full),
    ("reject_compress_poor", "counter", "Pages refused for not shrinking.", |s| s.reject_compress_poor),
    ("reject_alloc_fail", "counter", "Stores that got no memory.", |s| s.reject_alloc_fail),
    ("reject_placement", "counter", "Pages refused for where they may be.", |s| s.reject_placement),
    ("reject_busy", "counter", "Stores that gave up waiting.", |s| s.reject_busy),
    ("decompress_fail", "counter", "Pages found corrupt.", |s| s.corrupt_loads),
    ("refused_policies", "counter", "Memory policies that the kernel refused.", |s| s.refused_policies),
];

type NodeFigure = (&'static str, &'static str, &'static str, fn(&NodeStats) -> u64);

const NODE_FIGURES: &[NodeFigure] = &[
    ("node_stored_pages", "gauge", "Pages whose bytes are on the node.", |n| n.stored_pages),
    ("node_object_bytes", "gauge", "Compressed bytes on the node.", |n| n.object_bytes),
    ("node_pool_bytes", "gauge", "Bytes of the pool on the node.", |n| n.pool_bytes),
    ("node_warm_bytes", "gauge", "Bytes of it that are empty.", |n| n.warm_bytes),
    ("node_limit_hit", "counter", "How often the node's limit was hit.", |n| n.limit_hit),
    ("node_zswpout", "counter", "Pages stored on the node.", |n| n.pages_out),
    ("node_zswpin", "counter", "Pages loaded or read from the node.", |n| n.pages_in),
    ("node_zswpwb", "counter", "Pages written back from the node.", |n| n.written_back_pages),
    ("node_protected_pages", "gauge", "Pages that pressure leaves alone for now.", |n| n.protected_pages),
    ("node_freeable_pages", "gauge", "What the shrinker counts.", |n| n.freeable_pages),
];

type TenantFigure = (&'static str, &'static str, &'static str, fn(&TenantStats) -> Option<u64>);

const TENANT_FIGURES: &[TenantFigure] = &[
    ("tenant_stored_pages", "gauge", "Pages of the tenant that take memory.", |t| Some(t.stored_pages)),
    ("tenant_object_bytes", "gauge", "Its compressed bytes.", |t| Some(t.object_bytes)),
    ("tenant_max_bytes", "gauge", "Its limit.", |t| t.max_bytes),
    ("tenant_limit_hit", "counter", "How often its limit was hit.", |t| Some(t.limit_hit)),
    ("tenant_zswpout", "counter", "Its pages stored.", |t| Some(t.pages_out)),
    ("tenant_zswpin", "counter", "Its pages loaded or read.", |t| Some(t.pages_in)),
    ("tenant_zswpwb", "counter", "Its pages written back.", |t| Some(t.written_back_pages)),
    ("tenant_protected_pages", "gauge", "Its pages that pressure leaves alone for now.", |t| {
        Some(t.protected_pages)
    }),
];

type TenantNodeFigure = (&'static str, &'static str, &'static str, fn(&TenantStats) -> &[u64]);

const TENANT_NODE_FIGURES: &[TenantNodeFigure] =
    &[("tenant_node_object_bytes", "gauge", "Compressed bytes of the tenant on the node.", |t| {
        &t.node_object_bytes
    })];

/// Labels that samples have by themselves.
const OWN_LABELS: [&str; 3] = ["node", "tenant", "cause"];

/// The figures of stores at the time when they were added. [`Display`](fmt::Display) gives them in Prometheus' text
/// format, by node and tenant where they are of one. Names that zswap has are its own, with `zfolio_` before them.
///
/// ```
/// use zfolio::{Config, Prometheus, Zswap};
///
/// let zswap = Zswap::new(Config::default())?;
/// let mut figures = Prometheus::new();
/// figures.add(&zswap, &[("pool", "blocks")]);
/// assert!(figures.to_string().contains("zfolio_stored_pages{pool=\"blocks\"} 0\n"));
/// # Ok::<(), zfolio::NewError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Prometheus {
    stores: Vec<Snapshot>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    /// Names, and values before they are escaped.
    labels: Vec<(String, String)>,
    stats: Stats,
    tenants: Vec<TenantStats>,
}

impl Prometheus {
    /// No store yet.
    pub fn new() -> Prometheus {
        Prometheus::default()
    }

    /// Takes down the figures of a store. Its samples have these labels, beside `node`, `tenant` and `cause`; an earlier
    /// store of the same labels is replaced.
    ///
    /// What a name of a label must not have becomes `_`, and our own names get `store_` before them.
    pub fn add(&mut self, zswap: &Zswap, labels: &[(&str, &str)]) {
        let mut named: Vec<(String, String)> = Vec::new();
        for (name, value) in labels {
            let name = label_name(name);
            named.retain(|(other, _)| *other != name);
            named.push((name, (*value).to_owned()));
        }
        let snapshot = Snapshot { labels: named, stats: zswap.stats(), tenants: zswap.tenant_stats() };
        match self.stores.iter_mut().find(|store| store.labels == snapshot.labels) {
            Some(store) => *store = snapshot,
            None => self.stores.push(snapshot),
        }
    }
}

fn label_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if OWN_LABELS.contains(&&*name) {
        format!("store_{name}")
    } else if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        format!("_{name}")
    } else {
        name
    }
}

impl fmt::Display for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, kind, help, figure) in FIGURES {
            let family = Family::begin(f, name, kind, help)?;
            for store in &self.stores {
                family.sample(f, store, &[], figure(&store.stats))?;
            }
        }
        let help = "Pages done in software because the engine failed them.";
        let family = Family::begin(f, "fallbacks", "counter", help)?;
        for store in &self.stores {
            let fallbacks = store.stats.fallbacks;
            for (cause, count) in [
                ("busy", fallbacks.busy),
                ("page_fault", fallbacks.page_fault),
                ("timed_out", fallbacks.timed_out),
                ("bad_status", fallbacks.bad_status),
                ("decode", fallbacks.decode),
                ("crc_mismatch", fallbacks.crc_mismatch),
                ("not_done", fallbacks.not_done),
            ] {
                family.sample(f, store, &[("cause", &cause)], count)?;
            }
        }
        for (name, kind, help, figure) in NODE_FIGURES {
            let family = Family::begin(f, name, kind, help)?;
            for store in &self.stores {
                for node in &store.stats.nodes {
                    family.sample(f, store, &[("node", &node.nid)], figure(node))?;
                }
            }
        }
        for (name, kind, help, figure) in TENANT_FIGURES {
            let family = Family::begin(f, name, kind, help)?;
            for store in &self.stores {
                for tenant in &store.tenants {
                    if let Some(value) = figure(tenant) {
                        family.sample(f, store, &[("tenant", &tenant.tenant.0)], value)?;
                    }
                }
            }
        }
        for (name, kind, help, figure) in TENANT_NODE_FIGURES {
            let family = Family::begin(f, name, kind, help)?;
            for store in &self.stores {
                for tenant in &store.tenants {
                    for (node, value) in store.stats.nodes.iter().zip(figure(tenant)) {
                        let labels: [Label<'_>; 2] = [("tenant", &tenant.tenant.0), ("node", &node.nid)];
                        family.sample(f, store, &labels, *value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

type Label<'l> = (&'l str, &'l dyn fmt::Display);

/// What the lines of one figure begin with.
struct Family(String);

impl Family {
    fn begin(f: &mut fmt::Formatter<'_>, name: &str, kind: &str, help: &str) -> Result<Family, fmt::Error> {
        let name = format!("zfolio_{name}{}", if kind == "counter" { "_total" } else { "" });
        writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        Ok(Family(name))
    }

    fn sample(
        &self,
        f: &mut fmt::Formatter<'_>,
        store: &Snapshot,
        labels: &[Label<'_>],
        value: u64,
    ) -> fmt::Result {
        f.write_str(&self.0)?;
        let given = store.labels.iter().map(|(name, value)| (&**name, value as &dyn fmt::Display));
        let mut before = '{';
        for (name, value) in given.chain(labels.iter().copied()) {
            write!(f, "{before}{name}=\"")?;
            for c in value.to_string().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            before = ',';
        }
        let after = if before == ',' { "}" } else { "" };
        writeln!(f, "{after} {value}")
    }
}

impl Zswap {
    /// All figures in Prometheus' text format: [`Prometheus`] of this store alone, without labels.
    pub fn prometheus(&self) -> String {
        let mut figures = Prometheus::new();
        figures.add(self, &[]);
        figures.to_string()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::tests::{folio, store_with};
    use crate::{Config, TenantConfig, TenantId};

    #[test]
    fn every_line_is_a_figure_of_the_kind_that_its_name_says() {
        let zswap = store_with(Config::default());
        zswap.create_tenant(TenantId(3), TenantConfig::default()).unwrap();
        let page: [u8; 4096] = std::array::from_fn(|i| (i * i % 251) as u8);
        zswap.store(&folio(0, &[page]).with_tenant(TenantId(3))).unwrap();
        let text = zswap.prometheus();
        let mut name = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["#", "HELP", ..] => {}
                ["#", "TYPE", of, kind] => {
                    assert_eq!(of.ends_with("_total"), kind == "counter", "{line}");
                    name = of.to_owned();
                }
                [figure, value] => {
                    assert_eq!(figure.split('{').next(), Some(&name[..]), "{line}");
                    value.parse::<u64>().unwrap();
                }
                _ => panic!("{line}"),
            }
        }
        assert!(text.contains("\nzfolio_stored_pages 1\n"), "{text}");
        assert!(text.contains("\nzfolio_tenant_stored_pages{tenant=\"3\"} 1\n"), "{text}");
        assert!(text.contains("\nzfolio_zswpout_total 1\n"), "{text}");
    }

    #[test]
    fn labels_are_made_to_fit_and_a_store_is_told_of_once() {
        let zswap = store_with(Config::default());
        let mut figures = Prometheus::new();
        figures.add(&zswap, &[("a", "x")]);
        zswap.store(&folio(0, &[[1; 4096]])).unwrap();
        figures.add(&zswap, &[("a", "x")]);
        figures.add(&zswap, &[("node", "a\\b\"c\nd"), ("9 b", "1"), ("9_b", "2"), ("", "3")]);
        let text = figures.to_string();
        assert_eq!(text.lines().filter(|line| line.starts_with("zfolio_stored_pages")).count(), 2);
        assert!(text.contains("\nzfolio_stored_pages{a=\"x\"} 1\n"), "{text}");
        let odd =
            "\nzfolio_node_stored_pages{store_node=\"a\\\\b\\\"c\\nd\",_9_b=\"2\",_=\"3\",node=\"0\"} 0\n";
        assert!(text.contains(odd), "{text}");
    }
}
