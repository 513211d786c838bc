//! Through every error path that can be driven from outside, and the good ones.

use cairld::api::proto::{
    AcknowledgeEventsRequest, CallbackParameters, CompleteAuthorizationRequest, DeleteConsumerRequest,
    GetSessionRequest, IngestWebhookRequest, ListEventsRequest, ListSessionsRequest,
    StartAuthorizationRequest, WatchEventsRequest, WatchSessionRequest,
    complete_authorization_request::Callback, get_session_request::Lookup, watch_session_request,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    provider::ALL,
    scene::{Flow, Place, Scene, inner, with_token},
    search::Canary,
};
use crate::{
    bad_answers::unusable,
    bad_input::bad_callbacks,
    error_rows::{Section, rows},
    support::{
        Client, Daemon, REDIRECT_URI,
        http::{exchange, post, request, signed},
        signature_by, start_request,
    },
};

impl Scene {
    fn words(&self) -> String {
        self.secrets.fresh(Canary::ProviderWords)
    }

    /// The page's rows of sections, each with the provider's words and all secrets of its request behind it; then what the
    /// page does not have.
    fn refusals(&self, sections: &[Section]) -> Vec<Value> {
        let rows: Vec<_> = sections.iter().flat_map(|section| rows(*section)).collect();
        let echo = || format!("{} {ALL} {}", self.words(), self.words());
        let mut answers: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut answer = row.answer();
                answer["body"]["error_description"] = echo().into();
                answer
            })
            .collect();
        answers.extend([
            json!({"status": 400, "body": {"error": format!("{} {ALL}", self.words()), "error_description": echo()}}),
            json!({"status": 403, "body": format!("<html>{}</html>", echo()), "headers": {"set-cookie": echo()}}),
            json!({"status": 418, "body": {"error": "teapot", "error_description": format!("{}{ALL}", "x".repeat(470))}}),
            json!({"status": 401, "body": {"success": false, "error": echo()}}),
        ]);
        answers
    }

    /// Answers with 2xx and 3xx that cannot be used, with secrets in them.
    fn oddities(&self, good: &str) -> Vec<Value> {
        let mut answers: Vec<Value> = unusable(good).into_iter().map(|(_, answer)| answer).collect();
        answers.extend([
            json!({"status": 302, "headers": {"location": format!("https://{}.example/{ALL}", "x")}}),
            json!({"body": {"error": self.words(), "error_description": ALL}}),
            json!({"body": format!("{good}{ALL}")}),
        ]);
        answers
    }

    /// Everything that a token request, a question for claims, one about a session, and a revocation can meet. What is
    /// retried waits, so that all of them go on at once.
    pub async fn provider_fails(&self, client: &Client) {
        let good = format!(
            r#"{{"access_token":"{}","token_type":"Bearer"}}"#,
            self.secrets.fresh(Canary::AccessToken)
        );
        let mut token: Vec<Vec<Value>> =
            vec![vec![json!({"fault": "reset"})], vec![json!({"fault": "hang"})]];
        let refusals = self.refusals(&[Section::Token]);
        token.extend(refusals.into_iter().map(|answer| vec![answer; 3]));
        token.extend(self.oddities(&good).into_iter().map(|answer| vec![answer]));
        let mac =
            json!({"body": {"access_token": self.secrets.fresh(Canary::AccessToken), "token_type": "mac"}});
        token.push(vec![mac]);
        token.push(vec![json!({"status": 503, "body": {"error": self.words()}}), json!({"status": 402})]);
        let good = format!(
            r#"{{"sub":"{}","claims":{{"name":"{}"}}}}"#,
            self.secrets.fresh(Canary::Subject),
            self.secrets.fresh(Canary::Claims)
        );
        let mut claims: Vec<Vec<Value>> = vec![vec![json!({"fault": "reset"}); 3]];
        claims.extend(self.refusals(&[Section::Authentication]).into_iter().map(|answer| vec![answer]));
        claims.extend(self.oddities(&good).into_iter().map(|answer| vec![answer]));
        claims
            .push(vec![json!({"status": 500, "body": {"error": self.words(), "error_description": ALL}}); 3]);
        let mut queries: Vec<Vec<Value>> = vec![vec![json!({"fault": "reset"}); 3]];
        let sections = [Section::Authentication, Section::SessionQuery];
        queries.extend(self.refusals(&sections).into_iter().map(|answer| vec![answer]));
        queries.extend(
            self.oddities(r#"{"session":{"status":"failed"}}"#).into_iter().map(|answer| vec![answer]),
        );
        queries.push(vec![json!({"status": 502, "body": ALL}); 3]);

        let tokens = token.into_iter().map(|answers| async {
            let mut client = client.clone();
            let flow = self.flow(&mut client).await;
            self.provider.next(&flow.code, answers);
            let _ = self.complete(&mut client, &flow).await;
            let _ = self.present(&mut client, &flow.callback, &flow.binding).await;
        });
        let claims = claims.into_iter().map(|answers| async {
            let mut client = client.clone();
            let (flow, token) = self.with_token(&mut client).await;
            self.provider.next(&token, answers);
            let _ = self.complete(&mut client, &flow).await;
            self.note(Place::Session, "RevokeToken", &client.revoke(&flow.id).await);
            let _ = self.present(&mut client, &flow.callback, &flow.binding).await;
        });
        let queries = queries.into_iter().map(|answers| async {
            let mut client = client.clone();
            let flow = self.flow(&mut client).await;
            self.provider.next(&flow.code, [json!({"status": 402, "body": {"error": "payment_required"}})]);
            self.complete(&mut client, &flow).await.unwrap_err();
            self.provider.next(&flow.provider_session, answers);
            self.note(Place::Session, "GetSession, fresh", &client.refreshed(&flow.id).await);
            self.look(&mut client, &flow).await;
        });
        let revocations = [
            json!({"status": 400, "body": {"error": self.words(), "error_description": ALL}}),
            json!({"status": 401, "body": ALL}),
            json!({"status": 503, "body": ALL}),
            json!({"fault": "reset"}),
            json!({"status": 302, "headers": {"location": format!("/{ALL}")}}),
        ];
        let revocations = revocations.into_iter().map(|answer| async {
            let mut client = client.clone();
            let (flow, token) = self.with_token(&mut client).await;
            self.complete(&mut client, &flow).await.unwrap();
            self.provider.next(&format!("revoke {token}"), [answer]);
            self.note(Place::Session, "RevokeToken", &client.revoke(&flow.id).await);
            self.look(&mut client, &flow).await;
        });
        tokio::join!(join_all(tokens), join_all(claims), join_all(queries), join_all(revocations));
        client.clone().no_revocation_waits().await;
    }

    /// A session whose token is known beforehand.
    async fn with_token(&self, client: &mut Client) -> (Flow, String) {
        let flow = self.flow(client).await;
        let token = self.secrets.fresh(Canary::AccessToken);
        let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 900});
        self.provider.next(&flow.code, [json!({"body": body})]);
        (flow, token)
    }

    /// Each error of the redirect, with all that it can have seen behind it.
    pub async fn redirects_fail(&self, client: &mut Client) {
        let mut errors: Vec<String> =
            rows(Section::Redirect).into_iter().map(|row| row.error.unwrap()).collect();
        errors.push(self.words());
        errors.push(String::new());
        for error in errors {
            let flow = self.flow(client).await;
            // None: the error itself is what the provider should keep to itself.
            let error = if error.is_empty() { format!("bad {}", flow.state) } else { error };
            let said = format!("{} {}", flow.state, self.words());
            let pairs = [("error", &error), ("error_description", &said), ("state", &flow.state)];
            let callback = url::Url::parse_with_params(REDIRECT_URI, pairs).unwrap();
            self.present(client, callback.as_str(), &flow.binding).await.unwrap_err();
            self.look(client, &flow).await;
        }
    }

    /// Callers that are not who they say, or may not what they want.
    pub async fn strangers_knock(&self, daemon: &Daemon, flow: &Flow) {
        let mut nobody = self.caller(daemon, 3).await;
        self.note(Place::Start, "a stranger", &nobody.start(start_request()).await);
        let mut twice = self.caller(daemon, 0).await;
        let request = with_token(twice.request(GetSessionRequest::default()), &self.callers[1]);
        self.note(Place::Session, "two tokens", &inner(twice.integration.get_session(request).await));
        let mut reader = self.caller(daemon, 2).await;
        self.note(Place::Start, "a reader", &reader.start(start_request()).await);
        let mut other = self.caller(daemon, 1).await;
        self.note(Place::Status, "no admin", &other.status().await);
        for lookup in [
            Lookup::SessionId(flow.id.clone()),
            Lookup::State(flow.state.clone()),
            Lookup::ProviderSessionId(flow.provider_session.clone()),
        ] {
            let answer = other.get(lookup).await;
            assert!(answer.is_err());
            self.note(Place::Session, "another's", &answer);
        }
        assert!(self.present(&mut other, &flow.callback, &flow.binding).await.is_err());
        for answer in [other.cancel(&flow.id).await, other.revoke(&flow.id).await] {
            self.note(Place::Session, "another's", &answer);
        }
        let token = other.access_token(&flow.id).await;
        self.note_refusal("another's token", &token.unwrap_err());
    }

    /// Fields that are wrong, and calls out of their order.
    pub async fn callers_err(&self, client: &mut Client) {
        let junk = || self.secrets.fresh(Canary::Argument);
        for start in [
            StartAuthorizationRequest { client: junk(), ..start_request() },
            StartAuthorizationRequest { client: "nobody".into(), ..self.start_with("") },
            StartAuthorizationRequest { redirect_uri: junk(), ..self.start_with("") },
            StartAuthorizationRequest { scopes: vec![format!("a b {}", junk())], ..self.start_with("") },
            StartAuthorizationRequest { binding: junk().repeat(9), ..self.start_with("") },
            StartAuthorizationRequest { reference: format!("\0{}", junk()), ..self.start_with("") },
            StartAuthorizationRequest { request_id: format!("a {}", junk()), ..self.start_with("") },
            StartAuthorizationRequest { reference: junk().repeat(4000), ..self.start_with("") },
        ] {
            let answer = client.start(start).await;
            assert!(answer.is_err());
            self.note(Place::Start, "a bad field", &answer);
        }
        let first = self.start_with("");
        self.start(client, first.clone()).await;
        let again = StartAuthorizationRequest { reference: self.secrets.fresh(Canary::Reference), ..first };
        self.note(Place::Start, "another start, the same request id", &client.start(again).await);

        let flow = self.flow(client).await;
        for (callback, _) in bad_callbacks(&flow.callback, &flow.state) {
            self.present(client, &callback, &flow.binding).await.unwrap_err();
        }
        let crossed =
            CallbackParameters { state: junk(), code: junk(), iss: junk(), ..CallbackParameters::default() };
        for (parameters, binding) in [
            (crossed.clone(), junk()),
            (CallbackParameters { state: flow.state.clone(), ..crossed.clone() }, junk()),
            (CallbackParameters { error: junk(), ..crossed.clone() }, junk()),
            (CallbackParameters { session_id: junk(), state: flow.state.clone(), ..crossed }, String::new()),
        ] {
            let callback = Some(Callback::Parameters(parameters));
            let answer = client.complete(CompleteAuthorizationRequest { callback, binding }).await;
            assert!(answer.is_err());
            self.note(Place::Session, "bad parameters", &answer);
        }
        for lookup in [
            Lookup::SessionId(junk()),
            Lookup::State(junk()),
            Lookup::ProviderSessionId(junk()),
            Lookup::SessionId("ses_00000000000000000000000000".into()),
        ] {
            self.note(Place::Session, "nobody's", &client.get(lookup).await);
        }
        let request =
            client.request(ListSessionsRequest { reference: junk(), ..ListSessionsRequest::default() });
        let answer = inner(client.admin.list_sessions(request).await);
        self.note(Place::Session, "ListSessions", &answer);
        self.note(Place::Session, "not known yet", &client.refreshed(&flow.id).await);
        self.note(Place::Session, "no token", &client.revoke(&flow.id).await);
        self.note_refusal("no token", &client.access_token(&flow.id).await.unwrap_err());

        // One that is over, one that is cancelled, and a code that was seen before.
        self.complete(client, &flow).await.unwrap();
        self.note(Place::Session, "over", &client.cancel(&flow.id).await);
        let other_code = flow.callback.replace("code=", "code=x");
        self.present(client, &other_code, &flow.binding).await.unwrap_err();
        let second = self.flow(client).await;
        let pairs = [("code", &flow.code), ("state", &second.state)];
        let crossed = url::Url::parse_with_params(REDIRECT_URI, pairs).unwrap();
        self.present(client, crossed.as_str(), &second.binding).await.unwrap_err();
        self.note(Place::Session, "cancelled", &client.cancel(&second.id).await);
        self.present(client, &second.callback, &second.binding).await.unwrap_err();

        // A provider that is not there, and one whose name is wrong.
        let gone = self.flow_for(client, "gone").await;
        for issuer in ["", "&iss=https%3A%2F%2Fother.example", "&iss=https%3A%2F%2Fissuer.example"] {
            let callback = format!("{}{issuer}", gone.callback);
            self.present(client, &callback, &gone.binding).await.unwrap_err();
        }
        self.look(client, &gone).await;
    }

    /// A user who goes all the way, and whose claims and token are read.
    pub async fn all_is_well(&self, client: &mut Client) -> Flow {
        let flow = self.flow(client).await;
        let lookup = Some(watch_session_request::Lookup::SessionId(flow.id.clone()));
        let request = client.request(WatchSessionRequest { lookup });
        let mut stream = client.integration.watch_session(request).await.unwrap().into_inner();
        self.complete(client, &flow).await.unwrap();
        while let Some(change) = stream.message().await.unwrap() {
            self.note(Place::Session, "WatchSession", &Ok(change));
        }
        self.present(client, &flow.callback, &flow.binding).await.expect("a replay");
        let token = client.access_token(&flow.id).await.unwrap();
        self.hear(Place::Token, "GetAccessToken", token);
        let lookup = Lookup::ProviderSessionId(flow.provider_session.clone());
        self.note(Place::Session, "by the provider's id", &client.get(lookup).await);
        self.note(Place::Status, "GetStatus", &client.status().await);
        flow
    }

    /// Webhooks that are good, forged, late and broken, both ways in; then events, read in every way.
    pub async fn webhooks_come(&self, daemon: &Daemon, client: &mut Client, flow: &Flow) {
        let (new, old) = (self.world.secret("webhook.secret"), self.world.secret("webhook.old"));
        let address = daemon.webhooks();
        let body = |number: usize| {
            let secret = self.secrets.fresh(Canary::WebhookBody);
            let inner = self.secrets.fresh(Canary::WebhookBody);
            let about = if number.is_multiple_of(2) { flow.provider_session.as_str() } else { "hvf_nobody" };
            let body = json!({
                "id": inner, "type": "vae.resolved", "session_id": about, "claims": {"name": secret}, "number": number,
            });
            body.to_string().into_bytes()
        };
        let path = "/webhooks/shop";
        for (number, secret) in [&new, &old, &flow.code].into_iter().enumerate() {
            let body = body(number);
            let signed = [signed(&signature_by(secret, &body))];
            for request in [
                post(path, &signed, &body),
                post(path, &signed, &body),
                post(path, &[], &body),
                post("/webhooks/nobody", &signed, &body),
                request(&format!("PUT {path} HTTP/1.1"), &signed, b""),
                post(path, &signed, &body.repeat(900)),
                post(path, &[self.secrets.fresh(Canary::Argument), signed[0].clone()], &body),
            ] {
                let answer = exchange(&address, &request).await;
                self.hear(Place::Http, path, format!("{}\n{}", answer.head, answer.body));
            }
            for (body, signature) in [
                (body.clone(), signature_by(secret, &body)),
                (body.clone(), self.secrets.fresh(Canary::Argument)),
                ([&body[..], b"no JSON"].concat(), signature_by(&new, &[&body[..], b"no JSON"].concat())),
            ] {
                let message = IngestWebhookRequest { client: "shop".into(), body, signature };
                let request = client.request(message);
                let answer = inner(client.integration.ingest_webhook(request).await);
                self.note(Place::Event, "IngestWebhook", &answer);
            }
        }
        let list = |page_token: String| ListEventsRequest {
            client: "shop".into(),
            page_token,
            ..ListEventsRequest::default()
        };
        for token in [String::new(), self.secrets.fresh(Canary::Argument)] {
            let request = client.request(list(token));
            self.note(Place::Event, "ListEvents", &inner(client.integration.list_events(request).await));
        }
        let watch = || WatchEventsRequest {
            consumer: "c".into(),
            client: "shop".into(),
            ..WatchEventsRequest::default()
        };
        let request = client.request(watch());
        let mut stream = client.integration.watch_events(request).await.unwrap().into_inner();
        self.note(Place::Event, "WatchEvents", &Ok(stream.message().await.unwrap().expect("an event")));
        let request = client.request(watch());
        let _newer = client.integration.watch_events(request).await.unwrap();
        let ended = loop {
            match stream.message().await {
                Ok(event) => {
                    self.note(Place::Event, "WatchEvents", &Ok(event.expect("an end with a reason")))
                }
                Err(status) => break status,
            }
        };
        self.note_refusal("a stream that was superseded", &ended);
        let acknowledge = AcknowledgeEventsRequest {
            consumer: "c".into(),
            client: "shop".into(),
            cursor: self.secrets.fresh(Canary::Argument),
        };
        let request = client.request(acknowledge);
        self.note(
            Place::Event,
            "AcknowledgeEvents",
            &inner(client.integration.acknowledge_events(request).await),
        );
        let delete =
            DeleteConsumerRequest { consumer: self.secrets.fresh(Canary::Argument), client: "shop".into() };
        let request = client.request(delete);
        self.note(Place::Event, "DeleteConsumer", &inner(client.integration.delete_consumer(request).await));
    }

    /// What the provider says when it is asked too often: closes the budget for a moment, and so comes last.
    pub async fn limits_are_met(&self, client: &mut Client) {
        let answer = |seconds: &str| {
            let body = json!({"error": self.words(), "error_description": ALL});
            json!({"status": 429, "headers": {"retry-after": seconds}, "body": body})
        };
        for row in
            rows(Section::RateLimits).into_iter().filter(|row| row.at == "token" || row.at == "session")
        {
            let flow = self.flow(client).await;
            if row.at == "token" {
                self.provider.next(&flow.code, [answer("1")]);
                self.complete(client, &flow).await.unwrap_err();
            } else {
                self.provider
                    .next(&flow.code, [json!({"status": 402, "body": {"error": "payment_required"}})]);
                self.complete(client, &flow).await.unwrap_err();
                self.provider.next(&flow.provider_session, [answer("1")]);
                self.note(Place::Session, "a limit", &client.refreshed(&flow.id).await);
            }
        }
    }
}
