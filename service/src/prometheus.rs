//! The store's figures as Prometheus reads them: text, a line for each figure of the store, of a node, of a tenant.

use std::fmt::Write;

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
];

type TenantFigure = (&'static str, &'static str, &'static str, fn(&TenantStats) -> Option<u64>);

const TENANT_FIGURES: &[TenantFigure] = &[
    ("tenant_stored_pages", "gauge", "Pages of the tenant that take memory.", |t| Some(t.stored_pages)),
    ("tenant_object_bytes", "gauge", "Its compressed bytes.", |t| Some(t.object_bytes)),
    ("tenant_max_bytes", "gauge", "Its limit.", |t| t.max_bytes),
    ("tenant_limit_hit", "counter", "How often its limit was hit.", |t| Some(t.limit_hit)),
    // The root's are not counted apart.
    ("tenant_zswpout", "counter", "Its pages stored.", |t| (t.tenant.0 != 0).then_some(t.pages_out)),
    ("tenant_written_back_pages", "counter", "Its pages written back.", |t| {
        (t.tenant.0 != 0).then_some(t.written_back_pages)
    }),
];

/// The text so far, and the full name of the figure that it is at.
struct Text {
    text: String,
    name: String,
}

impl Text {
    fn figure(&mut self, name: &str, kind: &str, help: &str) {
        self.name = format!("zfolio_{name}{}", if kind == "counter" { "_total" } else { "" });
        let _ = writeln!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}", self.name);
    }

    fn value(&mut self, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

impl Zswap {
    /// All figures in Prometheus' text format, by node and tenant where they are of one. Names that zswap has are
    /// its own, with `zfolio_` before them.
    pub fn prometheus(&self) -> String {
        let stats = self.stats();
        let mut text = Text { text: String::new(), name: String::new() };
        for (name, kind, help, figure) in FIGURES {
            text.figure(name, kind, help);
            text.value("", figure(&stats));
        }
        text.figure("fallbacks", "counter", "Pages done in software because the engine failed them.");
        let fallbacks = stats.fallbacks;
        for (cause, count) in [
            ("busy", fallbacks.busy),
            ("page_fault", fallbacks.page_fault),
            ("timed_out", fallbacks.timed_out),
            ("bad_status", fallbacks.bad_status),
            ("decode", fallbacks.decode),
            ("crc_mismatch", fallbacks.crc_mismatch),
            ("not_done", fallbacks.not_done),
        ] {
            text.value(&format!("{{cause=\"{cause}\"}}"), count);
        }
        for (name, kind, help, figure) in NODE_FIGURES {
            text.figure(name, kind, help);
            for node in &stats.nodes {
                text.value(&format!("{{node=\"{}\"}}", node.nid), figure(node));
            }
        }
        let tenants = self.tenant_stats();
        for (name, kind, help, figure) in TENANT_FIGURES {
            text.figure(name, kind, help);
            for tenant in &tenants {
                if let Some(value) = figure(tenant) {
                    text.value(&format!("{{tenant=\"{}\"}}", tenant.tenant.0), value);
                }
            }
        }
        text.figure("tenant_node_object_bytes", "gauge", "Compressed bytes of the tenant on the node.");
        for tenant in &tenants {
            for (node, bytes) in stats.nodes.iter().zip(&tenant.node_object_bytes) {
                let labels = format!("{{tenant=\"{}\",node=\"{}\"}}", tenant.tenant.0, node.nid);
                text.value(&labels, *bytes);
            }
        }
        text.text
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
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
}
