package calllog

import "testing"

func TestLog(t *testing.T) {
	l := New(3)
	if l.Last() != 0 || len(l.Since(0)) != 0 {
		t.Fatal("a new log is not empty")
	}
	for _, a := range []string{"a", "b", "c", "d", "e"} {
		l.Add(Entry{Service: "ec2", Action: a})
	}
	var got string
	for i, e := range l.Since(0) {
		got += e.Action
		if e.Seq != uint64(i+3) {
			t.Errorf("entry %d has the number %d", i, e.Seq)
		}
	}
	if got != "cde" || l.Last() != 5 {
		t.Fatalf("kept %q, last %d", got, l.Last())
	}
	if s := l.Since(4); len(s) != 1 || s[0].Action != "e" {
		t.Fatalf("since 4: %+v", s)
	}
	if n := l.Count(0, "ec2", "d"); n != 1 {
		t.Fatalf("counted %d", n)
	}
}
