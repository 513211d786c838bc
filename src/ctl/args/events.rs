//! What may be typed after `cairlctl events`.

use clap::{Args as Group, Subcommand, value_parser};

/// Most events that one list holds.
const LONGEST_LIST: i64 = 10_000;

/// About events.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum EventsCommand {
    /// Show kept events, oldest first
    ///
    /// Events that belong to no session known here are shown to callers with `events = true` alone.
    List(ListEvents),
    /// Follow a client's events as a consumer: at least once, in order, from where the consumer is done
    ///
    /// A consumer is a name with a place in the client's events that lasts across restarts; a new one begins at the
    /// oldest event. Without --ack nothing moves its place, and the next watch tells the same events again. A newer
    /// watch of the same consumer ends this one: take a name of your own to look on. Forget the name when you are done
    /// with it, for events that a consumer has not acknowledged are kept longer. Ctrl-C ends a watch.
    Watch(WatchEvents),
    /// Say that a consumer is done with all events up to and including one
    Ack(Acknowledge),
    /// Forget a consumer and its place; one that is not known is forgotten already
    Forget(Forget),
}

/// Which events to show.
#[derive(Debug, Group)]
pub(in crate::ctl) struct ListEvents {
    /// Name of the configured client; may be left out when the caller may use just one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) client: String,
    /// Only events of this type (`vae.resolved`)
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) kind: String,
    /// Only events of this session (`ses_…`)
    #[arg(long, value_name = "SES_ID", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) session: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=LONGEST_LIST))]
    pub(in crate::ctl) limit: u32,
    /// Go on behind a list that its --limit cut, with the token that it ended with and the same filters
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) page_token: String,
    #[command(flatten)]
    pub(in crate::ctl) shown: Shown,
}

/// How much of an event to show.
#[derive(Debug, Group)]
pub(in crate::ctl) struct Shown {
    /// Show each event's body below it; --json has it always, as base64
    #[arg(long)]
    pub(in crate::ctl) body: bool,
}

/// Which events to follow, and how.
#[derive(Debug, Group)]
pub(in crate::ctl) struct WatchEvents {
    #[command(flatten)]
    pub(in crate::ctl) consumer: Consumer,
    /// Only events of this type (`vae.resolved`); may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::ctl) kinds: Vec<String>,
    /// Acknowledge each event once it is written, so that the next watch of this consumer begins behind it
    ///
    /// With --type this also passes over what lies before it and is of another type.
    #[arg(long)]
    pub(in crate::ctl) ack: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(in crate::ctl) count: Option<u64>,
    #[command(flatten)]
    pub(in crate::ctl) shown: Shown,
}

/// Which consumer.
#[derive(Debug, Group)]
pub(in crate::ctl) struct Consumer {
    /// Name of the consumer, out of `A-Z a-z 0-9 - _ .`; each caller has its own
    #[arg(long = "consumer", value_name = "NAME")]
    pub(in crate::ctl) name: String,
    /// Name of the configured client; may be left out when the caller may use just one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) client: String,
}

/// Up to where a consumer is done.
#[derive(Debug, Group)]
pub(in crate::ctl) struct Acknowledge {
    #[command(flatten)]
    pub(in crate::ctl) consumer: Consumer,
    /// The `cursor` of the last event that is done, as a watch told it to this consumer
    #[arg(value_name = "CURSOR")]
    pub(in crate::ctl) cursor: String,
}

/// Which consumer to forget.
#[derive(Debug, Group)]
pub(in crate::ctl) struct Forget {
    #[command(flatten)]
    pub(in crate::ctl) consumer: Consumer,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::ctl::args::{Args, Command};

    fn parse(rest: &[&str]) -> Option<EventsCommand> {
        let args = Args::try_parse_from(["cairlctl", "events"].iter().chain(rest)).ok()?;
        let Command::Events(command) = args.command else { panic!("{:?}", args.command) };
        Some(command)
    }

    #[test]
    fn a_list_is_bounded() {
        let Some(EventsCommand::List(list)) = parse(&["list"]) else { panic!("a list needs no argument") };
        assert_eq!((list.limit, list.kind.as_str(), list.shown.body), (100, "", false));
        assert!(
            parse(&["list", "--limit", "10000", "--type", "t", "--session", "ses_1", "--body"]).is_some()
        );
        for limit in ["0", "10001", "-1", "many"] {
            assert!(parse(&["list", "--limit", limit]).is_none(), "{limit}");
        }
        assert!(parse(&["list", "--type", "a", "--type", "b"]).is_none(), "the contract takes one");
    }

    #[test]
    fn a_watch_needs_a_consumer() {
        assert!(parse(&["watch"]).is_none());
        assert!(parse(&["watch", "--consumer", "c", "--count", "0"]).is_none());
        let all = ["watch", "--consumer", "c", "--type", "a", "--type", "b", "--ack", "--count", "3"];
        let Some(EventsCommand::Watch(watch)) = parse(&all) else { panic!("not a watch") };
        assert_eq!(
            (watch.kinds.as_slice(), watch.ack, watch.count),
            (&["a".into(), "b".into()][..], true, Some(3))
        );
        assert_eq!(watch.consumer.name, "c");
    }

    #[test]
    fn what_moves_a_consumer_names_it() {
        assert!(parse(&["ack", "CURSOR"]).is_none());
        assert!(parse(&["ack", "--consumer", "c"]).is_none());
        assert!(parse(&["ack", "--consumer", "c", "CURSOR"]).is_some());
        assert!(parse(&["forget"]).is_none());
        assert!(parse(&["forget", "--consumer", "c", "--client", "shop"]).is_some());
    }
}
