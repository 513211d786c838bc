//! Makes a history that breaks a rule as short as it can be while it still breaks one (delta debugging, Zeller 1999).

use super::step::Step;

/// Takes steps out, many at a time and then fewer, for as long as what is left `fails`.
pub(super) fn shrink(steps: &[Step], fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < steps.len() {
            let end = steps.len().min(start + size);
            let without: Vec<_> = steps[..start].iter().chain(&steps[end..]).copied().collect();
            if fails(&without) {
                steps = without;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
    steps
}

#[test]
fn what_does_not_matter_is_taken_out() {
    let steps: Vec<_> = (0..60).map(|millis| Step::Pass { millis }).collect();
    let needed = [Step::Pass { millis: 7 }, Step::Pass { millis: 41 }, Step::Pass { millis: 42 }];
    let shrunk = shrink(&steps, |left| needed.iter().all(|step| left.contains(step)));
    assert_eq!(shrunk, needed);
}
