//! What is logged, as `RUST_LOG` asks.

use std::env::VarError;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::last_words;

/// The filter that `RUST_LOG` asks for, and what of it is not as it was meant, in words. Panics are logged in any case, and
/// the daemon's own log by `default` where nothing is said of it: a level that is misspelt reads as the name of a crate, and
/// would silence everybody else.
pub(super) fn filter(asked: Result<String, VarError>, default: &str) -> (EnvFilter, Option<String>) {
    let unset = || EnvFilter::new(default);
    let not_understood = |error: &str| format!("is not understood ({error}), and as if it were not set");
    let (filter, wrong) = match asked {
        Ok(asked) if directives(&asked).next().is_none() => (unset(), None),
        Ok(asked) => match EnvFilter::try_new(directives(&asked).collect::<Vec<_>>().join(",")) {
            Ok(filter) if directives(&asked).any(speaks_of_cairld) => (filter, None),
            Ok(filter) => {
                let wrong = "says nothing of cairld, whose own log is as if it were not set; levels are error, warn, info, \
                             debug, trace and off";
                (with(filter, &format!("cairld={default}")), Some(wrong.to_owned()))
            }
            Err(error) => (unset(), Some(not_understood(&error.to_string()))),
        },
        Err(VarError::NotPresent) => (unset(), None),
        Err(error) => (unset(), Some(not_understood(&error.to_string()))),
    };
    (with(filter, &format!("{}=error", last_words::TARGET)), wrong)
}

fn directives(asked: &str) -> impl Iterator<Item = &str> {
    asked.split(',').map(str::trim).filter(|directive| !directive.is_empty())
}

/// Whether a directive is about this crate: by its name, or since it is about all.
fn speaks_of_cairld(directive: &str) -> bool {
    let target = directive.split(['[', '=']).next().unwrap_or_default();
    let is_level = directive.parse::<LevelFilter>().is_ok();
    is_level || target == "cairld" || target.starts_with("cairld::")
}

fn with(filter: EnvFilter, directive: &str) -> EnvFilter {
    match directive.parse() {
        Ok(directive) => filter.add_directive(directive),
        // Its parts are names and levels of ours.
        Err(_) => filter,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The loudest that passes of the daemon's own log, and what is said to be wrong.
    fn loudest(rust_log: &str) -> (Option<Level>, Option<String>) {
        let (filter, wrong) = filter(Ok(rust_log.to_owned()), "info");
        let log = tracing_subscriber::registry().with(filter);
        let loudest = tracing::subscriber::with_default(log, || {
            let levels = [
                (Level::TRACE, tracing::enabled!(target: "cairld::flows", Level::TRACE)),
                (Level::DEBUG, tracing::enabled!(target: "cairld::flows", Level::DEBUG)),
                (Level::INFO, tracing::enabled!(target: "cairld::flows", Level::INFO)),
                (Level::WARN, tracing::enabled!(target: "cairld::flows", Level::WARN)),
                (Level::ERROR, tracing::enabled!(target: "cairld::flows", Level::ERROR)),
            ];
            levels.into_iter().find(|(_, passes)| *passes).map(|(level, _)| level)
        });
        (loudest, wrong)
    }

    #[test]
    fn it_is_as_asked() {
        for (rust_log, level) in [
            ("debug", Some(Level::DEBUG)),
            (" WARN ", Some(Level::WARN)),
            ("off", None),
            ("cairld=off", None),
            ("hyper=info,error", Some(Level::ERROR)),
            ("info,cairld=debug", Some(Level::DEBUG)),
            ("cairld::flows=trace", Some(Level::TRACE)),
        ] {
            assert_eq!(loudest(rust_log), (level, None), "{rust_log:?}");
        }
    }

    #[test]
    fn what_says_nothing_is_as_if_it_were_not_set() {
        for rust_log in ["", " ", ",,,"] {
            assert_eq!(loudest(rust_log), (Some(Level::INFO), None), "{rust_log:?}");
        }
    }

    #[test]
    fn what_was_not_meant_silences_nobody_and_is_told() {
        for (rust_log, says) in [
            ("warning", "says nothing of cairld"),
            ("cairld_=debug", "says nothing of cairld"),
            ("hyper=info", "says nothing of cairld"),
            ("[call]=debug", "says nothing of cairld"),
            ("cairld=loud", "not understood"),
        ] {
            let (level, wrong) = loudest(rust_log);
            assert_eq!(level, Some(Level::INFO), "{rust_log:?}");
            assert!(wrong.as_ref().is_some_and(|wrong| wrong.contains(says)), "{rust_log:?}: {wrong:?}");
        }
    }
}
