//! Medians and ratios.

use serde::Serialize;

/// The median; the mean of the middle two if their number is even. `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values.get(middle).copied();
    }
    let below = values.get(middle.checked_sub(1)?)?;
    Some((below + values.get(middle)?) / 2.0)
}

/// `ours` over `theirs`, if that means anything.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let (ours, theirs) = (ours?, theirs?);
    (theirs > 0.0).then(|| ours / theirs)
}

/// The ratios of several pairs of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Their median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) low: f64,
    /// The largest.
    pub(crate) high: f64,
}

/// The ratios of measurements that were made next to each other. What else the machine did during both of a pair
/// weighs on both, so that these vary less than the measurements do.
pub(crate) fn paired_ratios(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Option<Spread> {
    let ratios: Vec<f64> = pairs.into_iter().filter_map(|(ours, theirs)| ratio(ours, theirs)).collect();
    Some(Spread {
        median: median(ratios.iter().copied())?,
        low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        high: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

/// Count per second, exactly enough for a report.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
        assert_eq!(median([f64::NAN, 5.0]), Some(5.0));
    }

    #[test]
    fn ratio_of_nothing_or_to_zero_is_none() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
        assert_eq!(ratio(Some(3.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
        assert_eq!(ratio(Some(1.0), None), None);
    }

    #[test]
    fn drift_of_the_machine_does_not_reach_paired_ratios() {
        let pairs = [(10.0, 20.0), (100.0, 200.0), (40.0, 100.0)].map(|(a, b)| (Some(a), Some(b)));
        assert_eq!(paired_ratios(pairs), Some(Spread { median: 0.5, low: 0.4, high: 0.5 }));
        assert_eq!(paired_ratios([(None, Some(1.0))]), None);
        assert_eq!(paired_ratios([]), None);
    }

    #[test]
    fn rate_without_time_is_zero() {
        assert!((per_second(10, 2.0) - 5.0).abs() < f64::EPSILON);
        assert_eq!(per_second(10, 0.0), 0.0);
    }
}
