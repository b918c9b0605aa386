// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes what fails smaller.

use crate::exits::Step;

/// Leaves out steps of `whole`, which fails for the reason `why`, as long as `run` fails. `steps` are its steps. Answers what is
/// left and why that fails.
pub fn steps<S: Clone>(
    whole: &S,
    mut why: String,
    steps: impl Fn(&mut S) -> &mut Vec<Step>,
    run: impl Fn(&S) -> Result<u64, String>,
) -> (S, String) {
    let mut small = whole.clone();
    let mut piece = steps(&mut small).len();
    while piece > 0 {
        let mut at = 0;
        while at < steps(&mut small).len() {
            let mut less = small.clone();
            let left = steps(&mut less);
            left.drain(at..(at + piece).min(left.len()));
            match run(&less) {
                Err(reason) => (small, why) = (less, reason),
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    (small, why)
}
