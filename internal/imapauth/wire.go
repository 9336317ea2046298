package imapauth

import (
	"context"
	"fmt"
	"strconv"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
)

// Limits on what a backend may say in answer to one command, or as a greeting.
const (
	// maxLine is the longest line before credentials are sent.
	maxLine = 8 << 10
	// maxLoginLine is the longest line after that. Some servers have much to say
	// to a user who has logged in.
	maxLoginLine = 64 << 10
	// maxLines is the number of lines.
	maxLines = 1000
	// maxBytes is the length of all lines and literals together.
	maxBytes = 256 << 10
	// maxAlerts is how much of what the backend wants users to be told is kept.
	maxAlerts = 8 << 10
)

// budget starts the limits anew.
func (c *Client) budget(line int) { c.lineLimit, c.linesLeft, c.bytesLeft = line, maxLines, maxBytes }

// tag makes the tag of the next command and begins that command in c.out.
func (c *Client) command(words string) {
	c.seq++
	c.tag = strconv.AppendInt(append(c.tag[:0], c.prefix...), int64(c.seq), 10)
	c.out = append(append(append(c.out[:0], c.tag...), ' '), words...)
}

// send writes what is in c.out and a line end.
func (c *Client) send(ctx context.Context) error {
	c.out = append(c.out, '\r', '\n')
	_, err := c.conn.Write(c.out)
	// It may have held a password.
	clear(c.out)
	c.out = c.out[:0]
	if err != nil {
		return ioError(ctx, err)
	}
	return nil
}

// ask sends a command that takes no more than its line and returns its answer.
func (c *Client) ask(ctx context.Context, words string, line int) (imapwire.Response, error) {
	c.budget(line)
	c.command(words)
	if err := c.send(ctx); err != nil {
		return imapwire.Response{}, err
	}
	return c.await(ctx, false)
}

// await reads until something decides: the tagged answer to the last command, a
// BYE, or, if one is expected, a continuation. What it returns is valid until
// the next read.
func (c *Client) await(ctx context.Context, continuation bool) (imapwire.Response, error) {
	for {
		r, err := c.read(ctx)
		if err != nil {
			return r, err
		}
		switch {
		case r.Kind == imapwire.KindTagged && string(r.Tag) == string(c.tag),
			r.Kind == imapwire.KindUntagged && r.Status == imap.StatusResponseTypeBye,
			r.Kind == imapwire.KindContinuation && continuation:
			return r, nil
		case r.Kind != imapwire.KindUntagged || r.Status == imap.StatusResponseTypePreAuth:
			return r, ErrProtocol
		}
		c.note(&r)
	}
}

// note keeps what matters of an untagged response.
func (c *Client) note(r *imapwire.Response) {
	if r.Status == "" {
		if imapwire.EqualFold(r.Name, "CAPABILITY") {
			c.caps = parseCaps(r.Rest)
		}
		return
	}
	c.noteCode(r)
}

// noteCode keeps what matters of the response code of a status.
func (c *Client) noteCode(r *imapwire.Response) {
	switch r.Code {
	case imapwire.CodeCapability:
		c.caps = parseCaps(r.Arg)
	case imap.ResponseCodeAlert:
		if c.sent && len(c.alerts)+len(r.Text) <= maxAlerts {
			c.alerts = fmt.Appendf(c.alerts, "* OK [ALERT] %s\r\n", r.Text)
		}
	}
}

// read returns the next response, within the limits.
func (c *Client) read(ctx context.Context) (imapwire.Response, error) {
	line, err := c.readLine(ctx)
	if err != nil {
		return imapwire.Response{}, err
	}
	r := imapwire.ParseResponse(line)
	if r.Kind != imapwire.KindUntagged || r.Status != "" {
		// Only data has literals. In a text, braces are braces.
		return r, nil
	}
	lit, found := imapwire.TrailingLiteral(line)
	if !found {
		return r, nil
	}
	for found {
		if lit.Size > int64(c.bytesLeft) {
			return imapwire.Response{}, ErrTooMuch
		}
		c.bytesLeft -= int(lit.Size)
		if err := c.r.Discard(int(lit.Size)); err != nil {
			return imapwire.Response{}, ioError(ctx, err)
		}
		if line, err = c.readLine(ctx); err != nil {
			return imapwire.Response{}, err
		}
		lit, found = imapwire.TrailingLiteral(line)
	}
	// Nothing that we look for comes in literals.
	return imapwire.Response{Kind: imapwire.KindUntagged}, nil
}

func (c *Client) readLine(ctx context.Context) ([]byte, error) {
	if c.linesLeft--; c.linesLeft < 0 {
		return nil, ErrTooMuch
	}
	line, err := c.r.ReadLine(min(c.lineLimit, c.bytesLeft))
	if err != nil {
		return nil, ioError(ctx, err)
	}
	c.bytesLeft -= len(line)
	return line, nil
}
