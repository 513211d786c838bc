//! What goes wrong outside every call of the daemon: between the provider and your own endpoint, where the daemon is not
//! asked and so cannot refuse. It has no reason of the wire, and is named all the same, to be looked up and checked.

/// Something that goes wrong where no call can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name, in the form of reasons. Never one of theirs.
    pub name: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// What happens.
    pub cause: &'static str,
    /// What to do about it, and where.
    pub remedy: &'static str,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The provider delivers a webhook to your endpoint.
    WebhookDelivery,
    /// How often something may happen.
    RateLimit,
}

impl Topic {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebhookDelivery => "webhook delivery",
            Self::RateLimit => "rate limit",
        }
    }
}

/// All of them. A signature that does not fit is none: IngestWebhook says so itself, by `WEBHOOK_SIGNATURE_INVALID`.
pub fn conditions() -> &'static [Condition] {
    CONDITIONS
}

const CONDITIONS: &[Condition] = &[
    Condition {
        name: "WEBHOOK_ENDPOINT_REFUSES",
        topic: Topic::WebhookDelivery,
        cause: "Your endpoint answered a delivery with another status than 2xx. The provider makes three attempts within \
                six minutes, and then gives the event up.",
        remedy: "Mend your handler: it answers 200 as soon as IngestWebhook answers OK, for duplicates too, and 503 while \
                 IngestWebhook answers UNAVAILABLE or RESOURCE_EXHAUSTED. The next attempt then gets through. After the \
                 third, ask for the session itself: GetSession with refresh.",
    },
    Condition {
        name: "WEBHOOK_ENDPOINT_SLOW",
        topic: Topic::WebhookDelivery,
        cause: "Your endpoint took longer than ten seconds to answer a delivery, which then counts as failed.",
        remedy: "Answer 200 as soon as IngestWebhook answers OK, and do your own work afterwards. What was handed on \
                 before is not lost: the next attempt is answered with duplicate = true.",
    },
    Condition {
        name: "WEBHOOK_ENDPOINT_UNREACHABLE",
        topic: Topic::WebhookDelivery,
        cause: "The provider cannot connect to your endpoint.",
        remedy: "See that your server runs and is reachable from the internet under the URL registered with the provider \
                 (https for live keys). cairld takes no webhooks itself; your endpoint passes them on to IngestWebhook. \
                 After three attempts within six minutes the event is given up: ask with GetSession and refresh.",
    },
    Condition {
        name: "WEBHOOK_RATE",
        topic: Topic::RateLimit,
        cause: "The provider sets no limit to how many webhooks it delivers at a time, and lets you set none.",
        remedy: "Be ready for many at once. IngestWebhook has no limit of its own; while it answers RESOURCE_EXHAUSTED or \
                 UNAVAILABLE, answer 503, and the provider comes again.",
    },
];
