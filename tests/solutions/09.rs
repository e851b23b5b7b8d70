//! A solution of exercise 09, compare in pairs: look after you have tried.

/// How many times as long the second of each pair took; `None` without any round. No time is zero.
pub fn ratio(rounds: &[(f64, f64)]) -> Option<f64> {
    let mut ratios: Vec<f64> = rounds.iter().map(|(first, second)| second / first).collect();
    ratios.sort_by(f64::total_cmp);
    let upper = *ratios.get(ratios.len() / 2)?;
    Some(if ratios.len().is_multiple_of(2) { (ratios[ratios.len() / 2 - 1] + upper) / 2.0 } else { upper })
}
