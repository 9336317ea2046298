package dovecotauth

import (
	"testing"
	"testing/synctest"
)

// step is one turn of a recorded conversation: what the client sends, and all
// that it hears then.
type step struct{ client, server string }

// The messages in the recordings.
const (
	good      = "AGFsaWNlQGV4YW1wbGUudGVzdABTZWNyZXQtMQ=="
	bad       = "AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="
	askUser   = "VXNlcm5hbWU6"
	askPass   = "UGFzc3dvcmQ6"
	alice     = "YWxpY2VAZXhhbXBsZS50ZXN0"
	goodPass  = "U2VjcmV0LTE="
	wrongPass = "d3Jvbmc="
	both      = "YWxpY2VAZXhhbXBsZS50ZXN0AGFsaWNlQGV4YW1wbGUudGVzdABTZWNyZXQtMQ=="
	fromLocal = "service=smtp\tnologin\tlip=127.0.0.1\trip=127.0.0.1"

	notOffered = "\treason=Unsupported authentication mechanism\n"
)

// TestTranscripts plays what real clients were recorded to send. Answers that
// differ from the recorded Dovecot: mechanisms beyond PLAIN and LOGIN are not
// offered, and a disabled account is refused.
func TestTranscripts(t *testing.T) {
	for _, tc := range []struct {
		name string
		// first is sent before the greeting is read.
		first string
		steps []step
	}{
		{name: "Postfix, six sessions on one connection", steps: []step{
			{"VERSION\t1\t0\nCPID\t21621\n", ""},
			{"AUTH\t1\tPLAIN\t" + fromLocal + "\tresp=" + good + "\n", "OK\t1\tuser=alice@example.test\n"},
			{"AUTH\t2\tLOGIN\t" + fromLocal + "\n", "CONT\t2\t" + askUser + "\n"},
			{"CONT\t2\t" + alice + "\n", "CONT\t2\t" + askPass + "\n"},
			{"CONT\t2\t" + goodPass + "\n", "OK\t2\tuser=alice@example.test\n"},
			{"AUTH\t3\tPLAIN\t" + fromLocal + "\tresp=" + bad + "\n", "FAIL\t3\tuser=alice@example.test\n"},
			{"AUTH\t4\tLOGIN\t" + fromLocal + "\n", "CONT\t4\t" + askUser + "\n"},
			{"CONT\t4\t" + alice + "\n", "CONT\t4\t" + askPass + "\n"},
			{"CONT\t4\t" + wrongPass + "\n", "FAIL\t4\tuser=alice@example.test\n"},
			{"AUTH\t5\tCRAM-MD5\t" + fromLocal + "\n", "FAIL\t5" + notOffered},
			{
				"AUTH\t6\tPLAIN\t" + fromLocal + "\tresp=AGRpc2FibGVkQGV4YW1wbGUudGVzdABTZWNyZXQtMQ==\n",
				"FAIL\t6\tuser=disabled@example.test\tcode=user_disabled\n",
			},
		}},
		{name: "Postfix, edge cases", steps: []step{
			{"VERSION\t1\t0\nCPID\t21621\n", ""},
			{"AUTH\t7\tPLAIN\t" + fromLocal + "\n", "CONT\t7\t\n"},
			{"CONT\t7\t" + good + "\n", "OK\t7\tuser=alice@example.test\n"},
			{"AUTH\t8\tPLAIN\t" + fromLocal + "\tresp==\n", "FAIL\t8\n"},
			{"AUTH\t9\tLOGIN\t" + fromLocal + "\tresp=" + alice + "\n", "CONT\t9\t" + askPass + "\n"},
			{"CONT\t9\t" + goodPass + "\n", "OK\t9\tuser=alice@example.test\n"},
			// The SMTP client gives up with "*", and the next one comes.
			{"AUTH\t10\tLOGIN\t" + fromLocal + "\n", "CONT\t10\t" + askUser + "\n"},
			{"AUTH\t11\tPLAIN\t" + fromLocal + "\tresp=" + good + "\n", "OK\t11\tuser=alice@example.test\n"},
			{
				"AUTH\t12\tPLAIN\t" + fromLocal + "\tresp=AGFsaW\n",
				"FAIL\t12\tcode=invalid_base64\treason=Invalid base64 data in initial response\n",
			},
			{"AUTH\t13\tPLAIN\t" + fromLocal + "\n", "CONT\t13\t\n"},
			{"CONT\t13\tAGFsaW\n", "FAIL\t13\tcode=invalid_base64\treason=Invalid base64 data in continued response\n"},
			{"AUTH\t14\tLOGIN\t" + fromLocal + "\n", "CONT\t14\t" + askUser + "\n"},
			{"CONT\t14\t\n", "FAIL\t14\tuser=\toriginal_user=\n"},
			{"AUTH\t15\tplain\t" + fromLocal + "\tresp=" + good + "\n", "OK\t15\tuser=alice@example.test\n"},
			{
				"AUTH\t16\tPLAIN\t" + fromLocal + "\tresp=" + plain("bob@example.test", "alice@example.test", "Secret-1") + "\n",
				"FAIL\t16\tuser=alice@example.test\n",
			},
			{
				"AUTH\t17\tPLAIN\t" + fromLocal + "\tresp=" + plain("", "nobody@example.test", "Secret-1") + "\n",
				"FAIL\t17\tuser=nobody@example.test\n",
			},
			{"AUTH\t18\tOAUTHBEARER\t" + fromLocal + "\tresp=bixhPWFsaWNlLAE=\n", "FAIL\t18" + notOffered},
			{"AUTH\t19\tXOAUTH2\t" + fromLocal + "\tresp=dXNlcj1hbGljZQEB\n", "FAIL\t19" + notOffered},
		}},
		{name: "Postfix, a second connection goes on counting", steps: []step{
			{"VERSION\t1\t0\nCPID\t21621\n", ""},
			{"AUTH\t21\tPLAIN\t" + fromLocal + "\tresp=" + good + "\n", "OK\t21\tuser=alice@example.test\n"},
		}},
		{name: "Postfix under TLS", steps: []step{
			{"VERSION\t1\t0\nCPID\t21621\n", ""},
			{
				"AUTH\t1\tPLAIN\tservice=submission\tnologin\tlip=127.0.0.1\trip=127.0.0.1\tsecured\tresp=" + good + "\n",
				"OK\t1\tuser=alice@example.test\n",
			},
		}},
		{name: "Postfix with XCLIENT", steps: []step{
			{"VERSION\t1\t0\nCPID\t21621\n", ""},
			{
				"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=203.0.113.25\trip=198.51.100.7\tresp=" + good + "\n",
				"OK\t1\tuser=alice@example.test\n",
			},
		}},
		{name: "Exim, PLAIN", steps: []step{{
			"VERSION\t1\t0\nCPID\t11478\nAUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.5\tlip=NULL\tnologin\tresp=" + good + "\n",
			"OK\t1\tuser=alice@example.test\n",
		}}},
		{name: "Exim, PLAIN without initial response", steps: []step{
			{
				"VERSION\t1\t0\nCPID\t11564\nAUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.5\tlip=NULL\tnologin\tresp=\n",
				"CONT\t1\t\n",
			},
			{"CONT\t1\t" + good + "\n", "OK\t1\tuser=alice@example.test\n"},
		}},
		{name: "Exim, LOGIN", steps: []step{
			{
				"VERSION\t1\t0\nCPID\t11586\nAUTH\t1\tLOGIN\tservice=smtp\trip=192.0.2.5\tlip=NULL\tnologin\tresp=\n",
				"CONT\t1\t" + askUser + "\n",
			},
			{"CONT\t1\t" + alice + "\n", "CONT\t1\t" + askPass + "\n"},
			{"CONT\t1\t" + goodPass + "\n", "OK\t1\tuser=alice@example.test\n"},
		}},
		{name: "Exim, wrong password", steps: []step{{
			"VERSION\t1\t0\nCPID\t11478\nAUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.5\tlip=NULL\tnologin\tresp=" + bad + "\n",
			"FAIL\t1\tuser=alice@example.test\n",
		}}},
		{name: "doveadm", first: "VERSION\t1\t2\nCPID\t12435\n", steps: []step{{
			"AUTH\t1\tPLAIN\tservice=doveadm\tdebug\tresp=" + both + "\n",
			"OK\t1\tuser=alice@example.test\n",
		}}},
		{name: "doveadm, wrong password", first: "VERSION\t1\t2\nCPID\t12435\n", steps: []step{{
			"AUTH\t1\tPLAIN\tservice=doveadm\tdebug\tresp=" + plain("alice@example.test", "alice@example.test", "wrong") + "\n",
			"FAIL\t1\tuser=alice@example.test\n",
		}}},
		{name: "doveadm -x", first: "VERSION\t1\t2\nCPID\t12435\n", steps: []step{{
			"AUTH\t1\tPLAIN\tservice=smtp\tdebug\tsession=abc\tlip=192.0.2.1\trip=192.0.2.7\tlport=587\trport=40000" +
				"\tlocal_name=mx.example.test\tfoo=bar\tresp=" + both + "\n",
			"OK\t1\tuser=alice@example.test\n",
		}}},
		{name: "chasquid", first: "VERSION\t1\t1\nCPID\t13420\n", steps: []step{{
			"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tno-penalty\tnologin\tresp=" + both + "\n",
			"OK\t1\tuser=alice@example.test\n",
		}}},
		{name: "Radicale", steps: []step{
			{"VERSION\t1\t1\n", ""},
			{"CPID\t13000\n", ""},
			{"AUTH\t1\tPLAIN\tservice=radicale\trip=192.0.2.44\tresp=" + good + "\n", "OK\t1\tuser=alice@example.test\n"},
		}},
		{name: "Prosody, empty initial response", steps: []step{
			{"VERSION\t1\t1\nCPID\t9\n", ""},
			{"AUTH\t1\tPLAIN\tservice=xmpp\tresp==\n", "FAIL\t1\n"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dial(t, &Server{Check: accounts})
				p.send(tc.first)
				p.expectGreeting()
				for _, s := range tc.steps {
					p.send(s.client)
					p.expect(s.server)
				}
				if err := p.hangUp(); err != nil {
					t.Errorf("Serve returned %v for a client that hung up", err)
				}
			})
		})
	}
}
