//! What the provider sees, and what it must not see.

use std::collections::BTreeMap;

use super::{provider::Asked, reference::WINDOW, step::Answer};

/// A code as the provider knows it.
#[derive(Debug, Default)]
struct Code {
    challenge: String,
    is_in_flight: bool,
    /// Whether an answer was on its way that the daemon never read, or could not use.
    is_unknown: bool,
    /// Whether it was redeemed, or refused for good.
    is_spent: bool,
    sends: u32,
}

/// What was asked and not answered, by number.
struct Open {
    asked: Asked,
    budget: Option<String>,
    since: u64,
}

/// All that has reached the provider, in true time: milliseconds that no clock of the daemon's can set.
#[derive(Default)]
pub(super) struct Ledger {
    codes: BTreeMap<String, Code>,
    open: BTreeMap<usize, Open>,
    /// Of each budget the requests: when they came, and when their answers were read.
    budgets: BTreeMap<String, Vec<(u64, u64)>>,
    /// Requests that came.
    pub(super) requests: u64,
}

impl Ledger {
    /// A request comes; `budget` is what limits it, and how much.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn comes(
        &mut self,
        number: usize,
        asked: &Asked,
        budget: Option<(String, usize)>,
        now: u64,
    ) -> Result<(), String> {
        self.requests += 1;
        if let Some((name, limit)) = &budget {
            let under_way = self.open.values().filter(|open| open.budget.as_ref() == Some(name)).count();
            let answered = self.budgets.get(name).map_or(0, |requests| {
                requests.iter().filter(|(_, answered)| answered + WINDOW > now).count()
            });
            if under_way + answered >= *limit {
                return Err(format!(
                    "a window of 60 s may hold {} requests of the budget {name}, and {limit} are allowed",
                    under_way + answered + 1
                ));
            }
        }
        match asked {
            Asked::Exchange { code, challenge } => {
                let known = self.codes.entry(code.clone()).or_default();
                if known.is_in_flight {
                    return Err(format!("two token requests for {code} are under way"));
                }
                if known.is_unknown {
                    return Err(format!("{code} is sent again, although what became of it is not known"));
                }
                if known.is_spent {
                    return Err(format!("{code} is sent again, although it is spent"));
                }
                if known.sends > 0 && known.challenge != *challenge {
                    return Err(format!("{code} is sent for another session than before"));
                }
                if known.sends == 9 {
                    return Err(format!("{code} is sent for the tenth time"));
                }
                known.sends += 1;
                known.is_in_flight = true;
                known.challenge.clone_from(challenge);
            }
            Asked::Userinfo { .. } | Asked::Session { .. } => {
                if self.open.values().any(|open| open.asked == *asked) {
                    return Err(format!("the same is asked twice at a time: {asked:?}"));
                }
            }
            Asked::Revoke { .. } => {}
        }
        let budget = budget.map(|(name, _)| name);
        self.open.insert(number, Open { asked: asked.clone(), budget, since: now });
        Ok(())
    }

    /// A request is answered.
    pub(super) fn answered(&mut self, number: usize, with: Answer, now: u64) {
        let Some(Open { asked, budget, since }) = self.open.remove(&number) else { return };
        if let Some(budget) = budget
            && with != Answer::NeverSent
        {
            self.budgets.entry(budget).or_default().push((since, now));
        }
        let Asked::Exchange { code, .. } = asked else { return };
        let Some(code) = self.codes.get_mut(&code) else { return };
        code.is_in_flight = false;
        match with {
            Answer::Good { .. } | Answer::Refused => code.is_spent = true,
            Answer::Lost | Answer::Unusable | Answer::Panics => code.is_unknown = true,
            Answer::NeverSent => code.sends -= 1,
            Answer::Down | Answer::Unpaid | Answer::Limited { .. } => {}
        }
    }

    /// The daemon has ended, and begins anew now: what was under way is answered to nobody.
    pub(super) fn restarts(&mut self, now: u64) {
        for (number, open) in std::mem::take(&mut self.open) {
            let with = Answer::Lost;
            self.open.insert(number, open);
            self.answered(number, with, now);
        }
    }
}
