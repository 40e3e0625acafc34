// Package agentapi is what an agent tells people: HTTP with JSON on a unix socket of its node. A question
// is one handler, registered by the file that answers it; nothing here changes anything.
package agentapi
