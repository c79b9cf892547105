//! Why a request was refused before any of our own code saw it.

use http::StatusCode;

/// One reason to refuse a request at the front door. Each closes an HTTP/1 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The first line is not `method SP target SP version`.
    RequestLine,
    /// `TRACE` or `CONNECT`.
    Method,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The target has characters or a form that a request to an API cannot have.
    Target,
    /// The target is longer than `uri_bytes`.
    UriTooLong,
    /// The head is longer than `head_bytes`.
    HeadTooLarge,
    /// More than `headers` fields.
    TooManyHeaders,
    /// A line ends in LF without CR.
    BareLineFeed,
    /// A field line starts with white space (RFC 9112, 5.2).
    FoldedLine,
    /// A field name is empty or has other characters than a token, white space before the colon included.
    HeaderName,
    /// A field value has control characters.
    HeaderValue,
    /// HTTP/1.1 without `Host`, or HTTP/2 without `:authority` and `host`.
    MissingHost,
    /// More than one `Host`.
    DuplicateHost,
    /// `Host` is not `name`, `name:port` or an address.
    BadHost,
    /// `Host` and the authority of the target differ.
    HostMismatch,
    /// `Content-Length` is not a decimal number.
    ContentLength,
    /// More than one `Content-Length`, equal ones included.
    DuplicateContentLength,
    /// `Transfer-Encoding` is not exactly `chunked`, or the request is HTTP/1.0.
    TransferEncoding,
    /// More than one `Transfer-Encoding`.
    DuplicateTransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` together.
    LengthAndEncoding,
    /// The head was not complete in time.
    HeadTimeout,
    /// The chunked body is malformed. The request is with the service by then; it sees a body error.
    Chunk,
}

use Refusal::{
    BadHost, BareLineFeed, Chunk, ContentLength, DuplicateContentLength, DuplicateHost, DuplicateTransferEncoding,
    FoldedLine, HeadTimeout, HeadTooLarge, HeaderName, HeaderValue, HostMismatch, LengthAndEncoding, Method,
    MissingHost, RequestLine, Target, TooManyHeaders, TransferEncoding, UriTooLong, Version,
};

impl Refusal {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 22] = [
        RequestLine,
        Method,
        Version,
        Target,
        UriTooLong,
        HeadTooLarge,
        TooManyHeaders,
        BareLineFeed,
        FoldedLine,
        HeaderName,
        HeaderValue,
        MissingHost,
        DuplicateHost,
        BadHost,
        HostMismatch,
        ContentLength,
        DuplicateContentLength,
        TransferEncoding,
        DuplicateTransferEncoding,
        LengthAndEncoding,
        HeadTimeout,
        Chunk,
    ];

    /// Metric label, log field and `code` of the error body.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestLine => "bad_request_line",
            Method => "method_not_allowed",
            Version => "http_version_not_supported",
            Target => "bad_request_target",
            UriTooLong => "uri_too_long",
            HeadTooLarge => "head_too_large",
            TooManyHeaders => "too_many_headers",
            BareLineFeed => "bare_line_feed",
            FoldedLine => "folded_header",
            HeaderName => "bad_header_name",
            HeaderValue => "bad_header_value",
            MissingHost => "missing_host",
            DuplicateHost => "duplicate_host",
            BadHost => "bad_host",
            HostMismatch => "host_mismatch",
            ContentLength => "bad_content_length",
            DuplicateContentLength => "duplicate_content_length",
            TransferEncoding => "bad_transfer_encoding",
            DuplicateTransferEncoding => "duplicate_transfer_encoding",
            LengthAndEncoding => "length_and_encoding",
            HeadTimeout => "head_timeout",
            Chunk => "bad_chunk",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Method => StatusCode::METHOD_NOT_ALLOWED,
            Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            UriTooLong => StatusCode::URI_TOO_LONG,
            HeadTooLarge | TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// One sentence for the client.
    pub fn message(self) -> &'static str {
        match self {
            RequestLine => "The request line is malformed.",
            Method => "This method is not supported.",
            Version => "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are supported.",
            Target => "The request target is malformed.",
            UriTooLong => "The request target is too long.",
            HeadTooLarge => "The request head is too large.",
            TooManyHeaders => "The request has too many headers.",
            BareLineFeed => "Lines of the request head must end in CR LF.",
            FoldedLine => "Folded header lines are not supported.",
            HeaderName => "A header name is malformed.",
            HeaderValue => "A header value has forbidden characters.",
            MissingHost => "The Host header is missing.",
            DuplicateHost => "There is more than one Host header.",
            BadHost => "The Host header is malformed.",
            HostMismatch => "The Host header and the request target name different hosts.",
            ContentLength => "The Content-Length header is malformed.",
            DuplicateContentLength => "There is more than one Content-Length header.",
            TransferEncoding => "The only supported transfer encoding is chunked, in HTTP/1.1.",
            DuplicateTransferEncoding => "There is more than one Transfer-Encoding header.",
            LengthAndEncoding => "Content-Length and Transfer-Encoding must not be sent together.",
            HeadTimeout => "The request head was not received in time.",
            Chunk => "The chunked request body is malformed.",
        }
    }

    /// The inverse of `self as u8`.
    pub(in crate::server) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn every_reason_is_listed_at_its_own_discriminant_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at);
            assert_eq!(Refusal::from_code(refusal as u8), Some(refusal));
            assert!(names.insert(refusal.as_str()));
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
        }
    }
}
