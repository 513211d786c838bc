//! What is logged, as `RUST_LOG` asks.

use std::env::VarError;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::last_words;

/// The filter that `RUST_LOG` asks for, and what of it is not as it was meant, in words. Panics are logged in any case, and
/// the daemon's own log by `default` where nothing is said of it: a level that is misspelt reads as the name of a crate, and
/// would silence everybody else.
pub(super) fn filter(asked: Result<String, VarError>, default: &str) -> (EnvFilter, Option<String>) {
    let unset = || EnvFilter::new(default);
    let not_understood = |error: &str| format!("is not understood ({error}), and is ignored");
    let (filter, wrong) = match asked {
        Ok(asked) if directives(&asked).next().is_none() => (unset(), None),
        Ok(asked) => match EnvFilter::try_new(directives(&asked).collect::<Vec<_>>().join(",")) {
            Ok(filter) if directives(&asked).any(is_about_all_of_cairld) => (filter, None),
            Ok(filter) => {
                let is_about_some = directives(&asked).any(is_about_some_of_cairld);
                let wrong = format!(
                    "does not mention cairld, whose own log stays at {default}; levels are error, warn, info, debug, trace \
                     and off"
                );
                (with(filter, &format!("cairld={default}")), (!is_about_some).then_some(wrong))
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

/// Whether a directive says how loud all of this crate is: by its name, or since it is about everybody.
fn is_about_all_of_cairld(directive: &str) -> bool {
    directive.parse::<LevelFilter>().is_ok() || directive.split('=').next() == Some("cairld")
}

/// Whether it is about some of it: a module, or what happens in a span.
fn is_about_some_of_cairld(directive: &str) -> bool {
    directive.starts_with("cairld::") || directive.contains('[')
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
            // All else of it stays as it is.
            ("cairld::api=trace", Some(Level::INFO)),
            ("[call]=debug", Some(Level::INFO)),
            ("hyper=info,cairld[call{session=x}]=off", Some(Level::INFO)),
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
            ("warning", "does not mention cairld"),
            ("cairld_=debug", "does not mention cairld"),
            ("hyper=info", "does not mention cairld"),
            ("cairld=loud", "not understood"),
        ] {
            let (level, wrong) = loudest(rust_log);
            assert_eq!(level, Some(Level::INFO), "{rust_log:?}");
            assert!(wrong.as_ref().is_some_and(|wrong| wrong.contains(says)), "{rust_log:?}: {wrong:?}");
        }
    }
}
