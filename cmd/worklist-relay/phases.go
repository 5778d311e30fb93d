package main

import (
	"errors"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
)

// advice is what a failure means, and what to do about it, for an operator who
// may have been woken up: whole sentences, without a term that needs the source.
type advice struct{ Meaning, Todo string }

// phases advises on every phase of package relay.
var phases = map[relay.Phase]advice{
	relay.PhaseDNS: {"The relay's host name does not resolve.",
		"Compare the namespace in `relays list` with the portal, and check that DNS works where this runs."},
	relay.PhaseConnect: {"The relay's host does not answer.",
		"Outgoing TCP port 443 must be open from where this runs, and straight: no proxy is used."},
	relay.PhaseTLS: {"There is no TLS session with the relay, or its certificate is not trusted.",
		"Does a firewall open TLS in between? Except the namespace from that, or name its certificate in RELAY_CA_FILE. Check this machine's clock, too."},
	relay.PhaseHandshake: {"The relay did not answer the call, or with an error of its own.",
		"Try again in a minute. If it stays, look at the namespace in the portal and at Azure's status page."},
	relay.PhaseAuth: {"The relay refused the token, or no token could be had.",
		"Compare the key and its Send right with the portal, or check that the identity has the role Azure Relay Sender. Check this machine's clock, too."},
	relay.PhaseEndpoint: {"There is no such hybrid connection.",
		"Compare `relays list` with the portal."},
	relay.PhaseNoListener: {"The relay has no gateway connected.",
		"Is the gateway's host switched on and its listener running? Its network must allow outgoing 443."},
	relay.PhaseRendezvous: {"A gateway is connected, but did not take the call.",
		"It may be busy with another call, or hang: try again in a minute, then have its listener restarted."},
	relay.PhaseRejected: {"The gateway's own listener refused the call.",
		"The gateway is up; the code is in the error, and the reason in the gateway's log."},
	relay.PhaseSend: {"The connection broke before the message was written in full.",
		"Try again. If it stays, the line to the relay is bad: look at the network where this runs."},
	relay.PhaseAckTimeout: {"The gateway took the message, and did not answer in time.",
		"Its software or its database hangs: have the hospital look at it, or restart it."},
	relay.PhaseAckLost: {"The connection broke before the answer came.",
		"Try again. If it stays, the line to the hospital is bad, or the gateway's software crashes on each message."},
	relay.PhaseAckClosed: {"The gateway hung up instead of answering.",
		"It is up, and could not read the message: look at its log, and ask who looks after its software."},
	relay.PhaseAckInvalid: {"The gateway's answer is no ack for this message.",
		"Does another program listen at this hybrid connection? Compare `relays list` with the portal, and ask who looks after the gateway."},
	relay.PhaseAckError: {"The gateway answered with an error.",
		"It is up; what it says is in the error, and more of it in the gateway's log."},
	relay.PhaseRecord: {"The database could not take down what happened.",
		"Look at the database, and at `/readyz`. The gateway is not the trouble."},
	relay.PhaseSettle: {"The queue could not be told what happened.",
		"Look at the Service Bus namespace. It is told at the next delivery; the gateway is not the trouble."},
}

// adviceOn is the advice on a failed attempt. Two causes are this side's own,
// and have another remedy than the rest of their phase.
func adviceOn(phase relay.Phase, err error) advice {
	switch {
	case errors.Is(err, relay.ErrHostNotAllowed):
		return advice{"This host may not be dialled.", "If it is the right one, name it in RELAY_ALLOW_HOSTS, here and for `run`. If not, mend the relay with `relays add --replace`."}
	case errors.Is(err, consumer.ErrNoKey):
		return advice{"There is no credential for this relay here.", "Set the variable that the relay names, as it is set for `run`. A relay without one needs SERVICEBUS_NAMESPACE, AZURE_CLIENT_ID or DATABASE_ENTRA, for Entra ID."}
	}
	return phases[phase]
}
