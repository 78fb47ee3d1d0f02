//! Requests that are refused before anybody looks at what they ask for.

use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, Request, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpStream;

use crate::problem::Problem;

/// Why the shape of a request is refused: no two programs between client and server shall read it differently,
/// and nobody sends a body to what is only read. The connection ends with the answer.
pub(super) fn malformed<B>(request: &Request<B>) -> Option<Response> {
    let headers = request.headers();
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let length = headers.get(CONTENT_LENGTH);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let detail = if is_chunked && length.is_some() {
        "the request says in two ways how long it is"
    } else if is_read && (is_chunked || length.is_some_and(|l| l.as_bytes() != b"0")) {
        "a request to read something has no body"
    } else if request.version() == Version::HTTP_11 && headers.get_all(HOST).iter().count() > 1 {
        "the request names more than one host"
    } else {
        return None;
    };
    let mut response = Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

/// Tells a client that there are too many of them.
pub(super) fn busy(stream: &TcpStream) {
    // It fits into the empty buffer of a new socket; nobody waits for who does not read it.
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
          Content-Type: application/problem+json\r\nContent-Length: 77\r\n\r\n\
          {\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections\"}\n",
    );
}
