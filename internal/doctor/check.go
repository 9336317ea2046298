// Package doctor looks for what keeps users from logging in: at a backend, at our own
// IMAP listeners, and at the listener that mail servers ask about passwords. Each
// thing that it looks at becomes a Check, which says what is wrong and what to do.
//
// It sends a password only where it was told to, and never one that was refused again
// unless somebody says so: directories count refusals, and lock accounts.
package doctor

import (
	"strings"
	"time"
	"unicode"
)

// Part is what a Check is about.
type Part string

// The parts.
const (
	PartBackend Part = "backend"
	PartFront   Part = "front"
	PartAuth    Part = "auth"
	PartConfig  Part = "config"
)

// Status is what came of a Check.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Step is what was looked at.
type Step string

// The steps, in the order in which they are taken.
const (
	StepLoad         Step = "load"
	StepName         Step = "name"
	StepPort         Step = "port"
	StepGreeting     Step = "greeting"
	StepCapabilities Step = "capabilities"
	StepStartTLS     Step = "starttls"
	StepTLS          Step = "tls"
	StepCertificate  Step = "certificate"
	StepMechanisms   Step = "mechanisms"
	StepHandshake    Step = "handshake"
	StepLogin        Step = "login"
	StepProbe        Step = "probe"
	StepDelegate     Step = "delegate"
)

// Check is one thing that was looked at, and what came of it. The names of its fields
// in JSON do not change.
type Check struct {
	// Part, Name and Address say where: Name is that of the backend, and Address
	// the upstream or the listener, as configured.
	Part    Part   `json:"part"`
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	// Endpoint is the address that the upstream's name has, if it has several.
	Endpoint string `json:"endpoint,omitempty"`
	// Step is what was looked at.
	Step   Step   `json:"step"`
	Status Status `json:"status"`
	// Fault is one word for what is wrong, if something is.
	Fault Fault `json:"fault,omitempty"`
	// Message says what was found, in a line for people.
	Message string `json:"message"`
	// Advice says what to do, one thing a line. Lines that begin with "$ " are
	// commands.
	Advice []string `json:"advice,omitempty"`
	// Milliseconds is how long it took; 0 if it took no time of its own.
	Milliseconds float64 `json:"milliseconds,omitempty"`
}

// place is where a Check was made.
type place struct {
	part          Part
	name, address string
	endpoint      string
}

// finding is what there is to tell of a step.
type finding struct {
	status  Status
	fault   Fault
	message string
	advice  []string
}

func fine(message string) finding { return finding{status: OK, message: message} }

func left(message string) finding { return finding{status: Skipped, message: message} }

// tell makes a Check.
func (d *Doctor) tell(p place, step Step, f finding, took time.Duration) {
	if f.status == "" {
		f.status = Failed
	}
	d.Tell(Check{
		Part: p.part, Name: p.name, Address: p.address, Endpoint: p.endpoint,
		Step: step, Status: f.status, Fault: f.fault, Message: f.message, Advice: f.advice,
		Milliseconds: float64(took.Round(10*time.Microsecond)) / float64(time.Millisecond),
	})
}

// maxForeign is how much is shown of what others say.
const maxForeign = 600

// foreign makes what somebody else has said fit to be shown on a terminal.
func foreign(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= maxForeign {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
