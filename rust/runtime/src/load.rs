//! How busy this machine is, from `/proc`: cpu, memory and network in basis points.

use std::time::Instant;

/// What a fully used network would carry in each direction; the kernel does not know it of virtual links.
const NETWORK_BYTES_PER_S: u64 = 125_000_000;

/// Samples differences between calls. Without `/proc` it never has an answer.
#[derive(Default)]
pub(crate) struct LoadSampler {
    before: Option<(Instant, Sample)>,
}

#[derive(Clone, Copy)]
struct Sample {
    cpu_busy: u64,
    cpu_total: u64,
    received: u64,
    sent: u64,
}

impl LoadSampler {
    /// The load since the last call; `None` at the first one.
    pub(crate) fn sample(&mut self) -> Option<[u32; 3]> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let (cpu_busy, cpu_total) = cpu(&read("/proc/stat")?)?;
        let (received, sent) = network(&read("/proc/net/dev")?);
        let memory = memory(&read("/proc/meminfo")?)?;
        let (now, sample) = (Instant::now(), Sample { cpu_busy, cpu_total, received, sent });
        let (then, before) = self.before.replace((now, sample))?;
        let elapsed_ms = (now - then).as_millis().max(1) as u64;
        let carried = sample.received.saturating_sub(before.received).max(sample.sent.saturating_sub(before.sent));
        let network = basis_points(carried.saturating_mul(1_000) / elapsed_ms, NETWORK_BYTES_PER_S);
        let cpu =
            basis_points(sample.cpu_busy.saturating_sub(before.cpu_busy), sample.cpu_total.saturating_sub(before.cpu_total));
        Some([cpu, memory, network])
    }
}

fn basis_points(part: u64, whole: u64) -> u32 {
    (part.saturating_mul(10_000) / whole.max(1)).min(10_000) as u32
}

/// (busy, total) in ticks over all cores.
fn cpu(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).take(8).collect();
    let idle = fields.get(3)? + fields.get(4)?;
    let total = fields.iter().sum::<u64>();
    Some((total - idle, total))
}

fn memory(meminfo: &str) -> Option<u32> {
    let value = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let total = value("MemTotal:")?;
    Some(basis_points(total.saturating_sub(value("MemAvailable:")?), total))
}

/// (received, sent) bytes of all interfaces but loopback.
fn network(dev: &str) -> (u64, u64) {
    let lines = dev.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    lines.fold((0, 0), |(received, sent), (_, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().flat_map(str::parse).collect();
        (received + numbers.first().unwrap_or(&0), sent + numbers.get(8).unwrap_or(&0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(cpu("cpu  10 0 20 60 10 0 0 0 0 0\ncpu0 1 1"), Some((30, 100)));
        assert_eq!(cpu("nonsense"), None);
        assert_eq!(memory("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n"), Some(7_500));
        let dev = "Inter-| Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 5 0 0 0 0 0 0 0 7 0\n";
        assert_eq!(network(dev), (5, 7));
    }

    #[test]
    fn the_first_sample_has_nothing_to_compare_with() {
        let mut sampler = LoadSampler::default();
        assert_eq!(sampler.sample(), None);
        if let Some(load) = sampler.sample() {
            assert!(load.iter().all(|l| *l <= 10_000) && load[1] > 0, "{load:?}");
        }
    }
}
