package connectivity

import (
	"testing"
	"time"
)

func TestUsable(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cert, key, err := certificate(now, "webhook.ns.svc", "webhook.ns")
	if err != nil {
		t.Fatal(err)
	}
	other, otherKey, err := certificate(now, "webhook.ns.svc", "webhook.ns")
	if err != nil {
		t.Fatal(err)
	}
	if fingerprint(cert) == fingerprint(other) {
		t.Error("two certificates have one fingerprint")
	}
	for _, c := range []struct {
		what      string
		cert, key []byte
		at        time.Time
		names     []string
		want      bool
	}{
		{"fresh", cert, key, now, []string{"webhook.ns.svc", "webhook.ns"}, true},
		{"an hour before its end", cert, key, now.Add(23 * time.Hour), []string{"webhook.ns.svc"}, true},
		{"less than an hour before its end", cert, key, now.Add(23*time.Hour + time.Minute), []string{"webhook.ns.svc"}, false},
		{"over", cert, key, now.Add(25 * time.Hour), []string{"webhook.ns.svc"}, false},
		{"from the future", cert, key, now.Add(-2 * time.Hour), []string{"webhook.ns.svc"}, false},
		{"another namespace's", cert, key, now, []string{"webhook.ns.svc", "webhook.other.svc"}, false},
		{"another's key", cert, otherKey, now, []string{"webhook.ns.svc"}, false},
		{"no certificate", nil, nil, now, []string{"webhook.ns.svc"}, false},
		{"rubbish", []byte("-----BEGIN"), key, now, []string{"webhook.ns.svc"}, false},
	} {
		if got := usable(c.cert, c.key, c.at, c.names...); got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}

func TestWebhookSeconds(t *testing.T) {
	for attempt, want := range map[time.Duration]int64{0: 1, 300 * time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2, 4 * time.Second: 4, time.Hour: 30} {
		if got := webhookSeconds(attempt); got != want {
			t.Errorf("%s: got %d, want %d", attempt, got, want)
		}
	}
}
