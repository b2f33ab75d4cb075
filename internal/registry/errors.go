package registry

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/lighter-oci/lighter/internal/image"
)

// Error is a request that a registry refused, or that did not reach it: one
// line that names what was asked for and why it failed. Hint is the next step.
type Error struct {
	Host   string // "localhost:5000"
	What   string // "localhost:5000/app:1", the host first
	Reason string
	Next   string // "" where there is nothing to do
	Status int    // of the response, 0 where none came

	causes []error
}

func (e *Error) Error() string { return e.What + ": " + e.Reason }

// Hint is the user's next step.
func (e *Error) Hint() string { return e.Next }

// Unwrap answers image.ErrNotFound among the causes of a 404.
func (e *Error) Unwrap() []error { return e.causes }

// explain makes an Error of whatever a request failed with. URLs, which may
// carry signatures, are left out of it.
func (r *Repository) explain(what string, err error) error {
	var (
		done       *Error
		credential *CredentialError
		config     *HostError
	)
	switch {
	case errors.As(err, &config):
		return config // without the URL in front
	case errors.As(err, &done), errors.As(err, &credential), errors.Is(err, image.ErrCorrupt), errors.Is(err, image.ErrNoRange):
		return err
	}
	host, attempts := r.ref.Host, r.attempts
	var cred Credential
	if c := r.cred.Load(); c != nil {
		cred = *c
	}
	e := &Error{Host: host, What: what, causes: []error{err}}
	if errors.Is(err, io.EOF) { // nobody may take a broken connection for an end
		e.causes = []error{io.ErrUnexpectedEOF}
	}
	var (
		answer *transport.Error
		dns    *net.DNSError
		proxy  *net.OpError
		plain  errPlain
	)
	untrusted := certificateError(err)
	switch {
	case untrusted != nil:
		e.Reason = "its certificate is not trusted: " + oneLine(untrusted.Error())
		e.Next = "add its authority to this machine's certificates, or " + r.client.configure(host, `ca = ["FILE"]`)
	case errors.As(err, &answer):
		e.answered(cred, attempts, answer)
	case errors.As(err, &proxy) && proxy.Op == "proxyconnect":
		e.Reason = "the proxy cannot be reached: " + oneLine(proxy.Err.Error())
		e.Next = "check HTTPS_PROXY, or name the registry in NO_PROXY"
	case errors.As(err, &dns):
		e.Reason = fmt.Sprintf("the name %s cannot be looked up: %s", dns.Name, oneLine(dns.Err))
		e.Next = "check the registry's name and this machine's network"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason = "connection refused"
		e.Next = fmt.Sprintf("is a registry running at %s?", host)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		e.Reason = "no route to the registry"
		e.Next = "check this machine's network, and HTTPS_PROXY where one is needed"
	case errors.Is(err, errStalled), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		e.Reason = "the registry does not answer in time"
		e.Next = "try again; check the network, and HTTPS_PROXY where one is needed"
	case errors.Is(err, errNothing):
		e.Reason = errNothing.Error()
		e.Next = "look at the proxy in front of it: what is sent does not arrive"
	case transient(err):
		e.Reason = fmt.Sprintf("the connection broke %d times: %s", attempts, breakage(err))
		e.Next = "try again; a proxy or load balancer in front of the registry may cut connections"
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Reason = "it answers in plain HTTP, which is accepted on loopback only"
		e.Next = "if the network is trusted, " + r.client.configure(host, "http = true")
	case errors.As(err, &plain) && plain.host != host:
		e.Reason = fmt.Sprintf("it leads to %s, which would be spoken to in plain HTTP: that is accepted on loopback only", plain.host)
		e.Next = "if the network is trusted, " + r.client.configure(plain.host, "http = true")
	case errors.As(err, &plain):
		e.Reason = "it would be spoken to in plain HTTP, which is accepted on loopback only"
		e.Next = "if the network is trusted, " + r.client.configure(host, "http = true")
	default:
		e.Reason = firstCause(err)
	}
	return e
}

// configure is the step that changes how a host is spoken to.
func (c *Client) configure(host, line string) string {
	return fmt.Sprintf("put %s below [registry.%q] into %s", line, host, c.file())
}

// file is the configuration of hosts, for messages.
func (c *Client) file() string {
	configs, _ := c.configs() // after an error there are no repositories to speak of
	return configs.File
}

// answered explains a response. What the registry says is quoted in one line.
func (e *Error) answered(cred Credential, attempts int, answer *transport.Error) {
	e.Status = answer.StatusCode
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Reason = "access denied; no credential for " + e.Host + " was found"
		if cred.Found() {
			e.Reason = fmt.Sprintf("access denied to the %s", cred)
		}
		e.Next = fmt.Sprintf("run `docker login %s`, or check the name and what the account may do", e.Host)
	case e.unwritten(answer):
	case status == http.StatusNotFound:
		e.causes = append(e.causes, image.ErrNotFound)
		e.Reason = "not found"
		e.Next = "check the name and the tag"
	case status == http.StatusTooManyRequests:
		e.Reason = fmt.Sprintf("the registry limits requests (429, asked up to %d times)", attempts)
		e.Next = "wait a few minutes"
		if !cred.Found() {
			e.Next += fmt.Sprintf("; `docker login %s` raises the limit on most registries", e.Host)
		}
	case transientStatus(status):
		e.Reason = fmt.Sprintf("the registry fails with status %d, %d times", status, attempts)
		e.Next = "try again later; the registry's log says why"
	default:
		e.Reason = fmt.Sprintf("the registry answers with status %d", status)
	}
	if said := says(answer); said != "" {
		e.Reason += " (it says: " + said + ")"
	}
}

// says quotes a registry in one line.
func says(answer *transport.Error) string {
	if len(answer.Errors) == 0 {
		return ""
	}
	return oneLine(strings.TrimSpace(string(answer.Errors[0].Code) + " " + answer.Errors[0].Message))
}

// unwritten explains what only those hear who write, and tells whether it did.
func (e *Error) unwritten(answer *transport.Error) bool {
	if answer.Request == nil || answer.Request.Method == http.MethodGet || answer.Request.Method == http.MethodHead {
		return false
	}
	var (
		code    transport.ErrorCode
		message string
	)
	if len(answer.Errors) > 0 {
		code, message = answer.Errors[0].Code, strings.ToLower(answer.Errors[0].Message)
	}
	manifest := answer.Request.Method == http.MethodPut && strings.Contains(answer.Request.URL.Path, "/manifests/")
	switch status := answer.StatusCode; {
	case transientStatus(status):
		return false
	case code == transport.ManifestBlobUnknownErrorCode, code == transport.BlobUnknownErrorCode && status == http.StatusBadRequest:
		e.Reason = "it names a blob or manifest that the registry does not have"
		e.Next = "push again; the registry may have cleaned up in between"
	case manifest && (strings.Contains(message, "immutable") || status == http.StatusPreconditionFailed || status == http.StatusConflict):
		e.Reason = "the tag is taken and may not be moved"
		e.Next = "push by another tag, or let the repository's settings allow it"
	case code == transport.NameUnknownErrorCode:
		e.Reason = "the registry has no such repository"
		e.Next = "create the repository first, or check the name"
	case status == http.StatusRequestEntityTooLarge, code == transport.SizeInvalidErrorCode:
		e.Reason = fmt.Sprintf("it is bigger than the registry, or a proxy in front of it, takes (status %d)", status)
		e.Next = "raise the limit there, or make the layers smaller"
	case status == http.StatusMethodNotAllowed, code == transport.UnsupportedErrorCode:
		e.Reason = fmt.Sprintf("the registry does not allow that (status %d)", status)
		e.Next = "the registry's settings may allow it"
	case code == transport.ManifestInvalidErrorCode:
		e.Reason = "the registry refuses the manifest"
		e.Next = "it may not know a media type in it: gzip layers are known to all"
	default:
		return false
	}
	return true
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// certificateError finds what is wrong with a certificate, or nil. It is looked
// for first: a loopback registry is tried in plain HTTP afterwards, and the
// answer to that says nothing.
func certificateError(err error) error {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return authority
	case errors.As(err, &hostname):
		return hostname
	case errors.As(err, &invalid):
		return invalid
	}
	return nil
}

// breakage is how a connection broke. A loopback registry is tried with TLS and
// without: the error holds both failures, and only one of them matters.
func breakage(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset by peer"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it was closed in the middle of a response"
	}
	return firstCause(err)
}

// firstCause is an error's text in one line, without the URL that net/http
// puts in front.
func firstCause(err error) string {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return oneLine(err.Error())
}

// oneLine takes line breaks, escapes and excess out of foreign text.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }), " ")
	const most = 300 // bytes
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
