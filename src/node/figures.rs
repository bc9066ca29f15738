//! Figures that more than one surface shows: memory of the process, latencies at quantiles.

use grapevine_protocol::documents::MemoryStats;
use hdrhistogram::Histogram;

/// What the broker's latencies count in, in nanoseconds.
const LATENCY_UNIT_NS: u64 = 1_000;

/// The latency at `quantile`, which is in (0, 1], in nanoseconds; 0 while there is none.
pub(crate) fn latency_ns(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    histogram.value_at_quantile(quantile).saturating_mul(LATENCY_UNIT_NS)
}

/// The process's memory in the words of Go's collector, most of which mean nothing here.
///
/// `heap_in_use_bytes` is the resident size of the process; the rest is 0. The keys stay because
/// nsqadmin and dashboards read them.
pub(crate) fn memory() -> MemoryStats {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    MemoryStats { heap_in_use_bytes: kib.unwrap_or(0) * 1_024, ..MemoryStats::default() }
}
