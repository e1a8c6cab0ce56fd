//! REST: every answer is made from the state that WebSockets show, or from the log behind it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use pitwall_schemas::moment::Moment;

use crate::channel::Channel;
use crate::hub::{Feed, Table};
use crate::message::{Position, SessionName};
use crate::problem::Problem;
use crate::query::{Parameters, decode, shown};
use crate::reader::{Cause, Span};
use crate::replay::{SPEED_MAX, SPEED_MIN, Steering};
use crate::row::{Filter, Row};
use crate::server::Edge;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers every request but WebSockets'.
pub(crate) async fn answer(edge: &Edge, request: Request<Incoming>) -> Result<Answer, Problem> {
    let path = decode(request.uri().path())?;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["healthz"] => get(&request).map(|()| json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())),
        ["readyz"] => get(&request).and_then(|()| ready(edge)),
        ["metrics"] => get(&request).and_then(|()| metrics(edge)),
        ["api", "v1", "sessions"] => {
            get(&request)?;
            Parameters::read(request.uri().query())?.finish()?;
            Ok(serialised(&serde_json::json!({"sessions": edge.hub.summaries()})))
        }
        ["api", "v1", "sessions", name] => {
            get(&request)?;
            Parameters::read(request.uri().query())?.finish()?;
            Ok(serialised(&session(edge, name)?.summary()))
        }
        ["api", "v1", "sessions", name, "replay"] => replay(edge, name, request).await,
        ["api", "v1", "sessions", name, "verify"] => {
            get(&request)?;
            Parameters::read(request.uri().query())?.finish()?;
            verify(edge, &*session(edge, name)?).await
        }
        ["api", "v1", "sessions", name, "facts", fact_id] => {
            get(&request)?;
            Parameters::read(request.uri().query())?.finish()?;
            explain(edge, &*session(edge, name)?, fact_id).await
        }
        ["api", "v1", "sessions", name, channel] => {
            get(&request)?;
            let feed = session(edge, name)?;
            let channel = named(channel)?;
            rows(edge, &feed, channel, request.uri().query(), request.headers()).await
        }
        ["api", ..] => Err(Problem::not_found("no such resource: docs/protocol.md lists them")),
        _ => {
            get(&request)?;
            let file = crate::dashboard::file(&path).ok_or_else(|| Problem::not_found("no such page"))?;
            Ok(if matches_etag(request.headers(), &file.etag) { not_modified(&file.etag) } else { file.answer() })
        }
    }
}

fn get(request: &Request<Incoming>) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) { Ok(()) } else { Err(Problem::method("GET, HEAD")) }
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn serialised(body: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(body) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).answer(""),
    }
}

fn ready(edge: &Edge) -> Result<Answer, Problem> {
    if edge.hub.is_ready() {
        return Ok(json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()));
    }
    Err(Problem::busy("sessions are being restored: ask again"))
}

fn metrics(edge: &Edge) -> Result<Answer, Problem> {
    let handle = edge.metrics.as_ref().ok_or_else(|| Problem::not_found("this process keeps no metrics here"))?;
    let mut answer = json(StatusCode::OK, handle.render());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(answer)
}

/// The session of this name.
pub(crate) fn session(edge: &Edge, name: &str) -> Result<Arc<Feed>, Problem> {
    let named = SessionName::read(name)
        .ok_or_else(|| Problem::not_found(format!("`{}` is no session: write its number or `latest`", shown(name))))?;
    edge.hub.named(named).ok_or_else(|| {
        if edge.hub.is_ready() {
            Problem::not_found(format!("there is no session `{}`: /api/v1/sessions lists them", shown(name)))
        } else {
            Problem::busy("sessions are being restored: ask again")
        }
    })
}

/// The channel of this name.
pub(crate) fn named(channel: &str) -> Result<Channel, Problem> {
    let all = || Channel::all().map(Channel::name).collect::<Vec<_>>().join(", ");
    Channel::named(channel).ok_or_else(|| Problem::not_found(format!("there is no channel `{}`: there are {}", shown(channel), all())))
}

fn etag(position: Position) -> String {
    format!("\"{}:{}\"", position.epoch, position.seq)
}

fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn not_modified(etag: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
}

/// What `/{channel}` was asked for.
struct Asked {
    filter: Filter,
    as_of: Option<Moment>,
    epoch: Option<i32>,
    page: Option<Page>,
}

/// A page of a channel's history.
#[derive(Clone, Copy)]
struct Page {
    from_fact_seq: u64,
    limit: usize,
}

impl Asked {
    fn read(edge: &Edge, channel: Channel, query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters = Parameters::read(query)?;
        let filter = Filter {
            drivers: parameters.all("driver", "a car number")?,
            from_lap: parameters.one("from", "a lap number")?,
            to_lap: parameters.one("to", "a lap number")?,
        };
        for (given, field) in
            [(!filter.drivers.is_empty(), "driver_number"), (filter.from_lap.is_some() || filter.to_lap.is_some(), "lap_number")]
        {
            if given && !channel.has_field(field) {
                return Err(Problem::bad_request(format!("rows of {} have no {field} to choose by", channel.name())));
            }
        }
        let as_of = parameters.as_of()?;
        let epoch = parameters.one::<i32>("epoch", "an epoch")?;
        let is_history = parameters.one::<bool>("history", "true or false")?.unwrap_or(false);
        let after: Option<u64> = parameters.one("after", "a fact_seq")?;
        let limit: Option<usize> = parameters.one("limit", "a number of facts")?;
        parameters.finish()?;
        let facts_max = edge.hub.options().page_facts_max;
        if limit.is_some_and(|limit| limit == 0 || limit > facts_max) {
            return Err(Problem::bad_request(format!("`limit` lies within 1 and {facts_max}")));
        }
        if !is_history && (after.is_some() || limit.is_some()) {
            return Err(Problem::bad_request("`after` and `limit` page through history=true"));
        }
        let from_fact_seq = after.map_or(0, |after| after.saturating_add(1));
        let page = is_history.then(|| Page { from_fact_seq, limit: limit.unwrap_or(facts_max) });
        Ok(Self { filter, as_of, epoch, page })
    }

    /// Whether the answer can never change.
    const fn is_pinned(&self) -> bool {
        self.epoch.is_some() && matches!(self.as_of, Some(Moment::Seq(_)))
    }
}

async fn rows(edge: &Edge, feed: &Arc<Feed>, channel: Channel, query: Option<&str>, headers: &HeaderMap) -> Result<Answer, Problem> {
    let asked = Asked::read(edge, channel, query)?;
    let (current, now, _) = feed.clock();
    let epoch = asked.epoch.unwrap_or(current.epoch);
    if epoch < 0 || epoch > current.epoch {
        return Err(Problem::not_found(format!("the session has no epoch {epoch}: its current one is {}", current.epoch)));
    }
    let mut place = match asked.as_of {
        Some(moment) => edge.past.place(feed, epoch, moment).await?,
        None => (Position { epoch, seq: current.seq }, now),
    };
    if matches_etag(headers, &etag(place.0)) {
        return Ok(not_modified(&etag(place.0)));
    }
    let mut next_after = None;
    let rows = if let Some(page) = asked.page {
        let (rows, is_last) = history(edge, feed, channel, place, page).await?;
        next_after = Some(rows.last().filter(|_| !is_last).map(|row| row.fact_seq));
        rows
    } else {
        let table = if asked.as_of.is_none() && epoch == current.epoch {
            feed.table(channel)
        } else {
            edge.past.table(feed, channel, place).await?
        };
        let Table { position, known_at, rows } = table;
        place = (position, known_at);
        rows
    };
    Ok(table_answer(feed, channel, place, &asked, &rows, next_after))
}

async fn history(
    edge: &Edge,
    feed: &Feed,
    channel: Channel,
    (position, known_at): (Position, pitwall_engine::Micros),
    page: Page,
) -> Result<(Vec<Row>, bool), Problem> {
    let session_key = feed.session_key();
    edge.past
        .read(move |reader| {
            let span = Span { from_fact_seq: page.from_fact_seq, known_after: None, known_by: Some(known_at) };
            // One more than asked for tells whether there is a next page.
            let mut facts = reader.history(session_key, position.epoch, channel, span, page.limit + 1)?;
            let is_last = facts.len() <= page.limit;
            facts.truncate(page.limit);
            let rows: Result<Vec<Row>, _> = facts.iter().map(|fact| Row::read(channel, &fact.bytes).map(|(row, _)| row)).collect();
            Ok((rows.map_err(|error| crate::reader::ReadError::Unavailable(error.to_string()))?, is_last))
        })
        .await
}

fn table_answer(
    feed: &Feed,
    channel: Channel,
    (position, known_at): (Position, pitwall_engine::Micros),
    asked: &Asked,
    rows: &[Row],
    next_after: Option<Option<u64>>,
) -> Answer {
    let mut body = String::with_capacity(160 + rows.iter().map(|row| row.json.len() + 1).sum::<usize>());
    let Position { epoch, seq } = position;
    let (session_key, name) = (feed.session_key(), channel.name());
    let _ = write!(
        body,
        r#"{{"session":{session_key},"epoch":{epoch},"seq":{seq},"known_at":"{known_at}","channel":"{name}","rows":[{}]"#,
        crate::ring::join(rows.iter().filter(|row| asked.filter.passes(row)))
    );
    match next_after {
        Some(Some(fact_seq)) => drop(write!(body, r#","next_after":{fact_seq}"#)),
        Some(None) => body.push_str(r#","next_after":null"#),
        None => {}
    }
    body.push('}');
    let mut answer = json(StatusCode::OK, body);
    if let Ok(etag) = HeaderValue::from_str(&etag(position)) {
        answer.headers_mut().insert(ETAG, etag);
    }
    if asked.is_pinned() {
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    }
    answer
}

/// Reads `{session}-{epoch}-{fact_seq}`.
fn fact_id(text: &str) -> Option<(i32, i32, u64)> {
    let mut parts = text.split('-');
    let mut part = || parts.next().filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let id = (part()?.parse().ok()?, part()?.parse().ok()?, part()?.parse().ok()?);
    parts.next().is_none().then_some(id)
}

async fn explain(edge: &Edge, feed: &Feed, text: &str) -> Result<Answer, Problem> {
    let (session_key, epoch, fact_seq) = fact_id(text).ok_or_else(|| {
        Problem::bad_request(format!("`{}` is no fact: write {{session}}-{{epoch}}-{{fact_seq}}, as in fact_id", shown(text)))
    })?;
    let missing = || Problem::not_found(format!("session {} has no fact {}", feed.session_key(), shown(text)));
    if session_key != feed.session_key() {
        return Err(missing());
    }
    let found = edge.past.look(move |reader| {
        let Some((channel, fact)) = reader.fact(session_key, epoch, fact_seq)? else { return Ok(None) };
        let (row, _) = Row::read(channel, &fact.bytes).map_err(|error| crate::reader::ReadError::Unavailable(error.to_string()))?;
        let causes = reader.records(session_key, &row.causes)?;
        Ok(Some((channel, row, causes)))
    });
    let (channel, row, causes) = found.await?.ok_or_else(missing)?;
    let causes: Vec<serde_json::Value> = causes.iter().map(Cause::to_json).collect();
    let causes = serde_json::Value::Array(causes);
    Ok(json(StatusCode::OK, format!(r#"{{"channel":"{}","fact":{},"causes":{causes}}}"#, channel.name(), row.json)))
}

async fn verify(edge: &Edge, feed: &Feed) -> Result<Answer, Problem> {
    let session_key = feed.session_key();
    let verified = edge.past.look(move |reader| reader.verify(session_key)).await?;
    Ok(serialised(&serde_json::json!({
        "session": session_key,
        "epoch": verified.epoch,
        "seq": verified.seq,
        "facts": verified.facts,
        "facts_hash": verified.facts_hash,
        "recomputed_hash": verified.recomputed_hash,
        "holds": verified.facts_hash == verified.recomputed_hash,
    })))
}

async fn replay(edge: &Edge, name: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    if request.method() != Method::POST {
        return Err(Problem::method("POST"));
    }
    edge.check_origin(request.headers())?;
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")));
    if !is_json {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json"));
    }
    Parameters::read(request.uri().query())?.finish()?;
    let feed = session(edge, name)?;
    let replay = feed
        .replay()
        .ok_or_else(|| Problem::new(StatusCode::CONFLICT, format!("session {} is no replay of this process", feed.session_key())))?;
    let bytes_max = edge.hub.options().body_bytes_max;
    let body = Limited::new(request.into_body(), bytes_max).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {bytes_max} bytes"))
        } else {
            Problem::bad_request("the body ends early")
        }
    })?;
    let steering: Steering = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Problem::bad_request(format!("send {{\"speed\":20.0}}, {{\"is_paused\":true}} or both: {error}")))?;
    if steering == Steering::default() {
        return Err(Problem::bad_request("send {\"speed\":20.0}, {\"is_paused\":true} or both"));
    }
    if let Some(speed) = steering.speed {
        if !(SPEED_MIN..=SPEED_MAX).contains(&speed) {
            return Err(Problem::bad_request(format!("`speed` lies within {SPEED_MIN} and {SPEED_MAX}")));
        }
        replay.set_speed(speed);
    }
    if let Some(is_paused) = steering.is_paused {
        replay.set_paused(is_paused);
    }
    Ok(serialised(&replay.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_id_is_three_numbers() {
        assert_eq!(fact_id("9920-0-17"), Some((9920, 0, 17)));
        for text in ["", "9920", "9920-0", "9920-0-", "9920-0-1-2", "9920--1", "a-0-1", "9920-0-+1", "9920-0-99999999999999999999"] {
            assert_eq!(fact_id(text), None, "{text}");
        }
    }

    #[test]
    fn an_etag_matches_alone_in_a_list_weak_or_by_star() {
        for (given, matches) in [("\"0:7\"", true), ("\"0:6\", W/\"0:7\"", true), ("*", true), ("\"0:6\"", false), ("0:7", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(given).unwrap());
            assert_eq!(matches_etag(&headers, "\"0:7\""), matches, "{given}");
        }
    }
}
