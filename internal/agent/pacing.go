package agent

import (
	"fmt"
	"strings"

	"github.com/weft-cni/weft/internal/nodenet"
)

// How what limited pods send is kept to its limit.
const (
	pacingFQ    = "fq"
	pacingQueue = "queue and policer"
)

// pacing says which way this node does it, and why; nothing before its interfaces are known.
func pacing(found []nodenet.Found, enabled bool) (way, why string) {
	if len(found) == 0 {
		return "", ""
	}
	paced := 0
	var reasons []string
	for _, f := range found {
		p := f.Pacing
		reason := f.Name + " has " + p.Queue
		switch {
		case p.FQ && p.Own:
			reason += ", set by weft"
		case p.Why != "":
			reason = f.Name + ": " + p.Why
			if p.Queue != "" {
				reason += ", it has " + p.Queue
			}
		}
		reasons = append(reasons, reason)
		if p.FQ {
			paced++
		}
	}
	why = strings.Join(reasons, "; ")
	switch paced {
	case len(found):
		return pacingFQ, why
	case 0:
		way = pacingQueue
	default:
		way = fmt.Sprintf("%s on %d of %d interfaces, otherwise %s", pacingFQ, paced, len(found), pacingQueue)
	}
	if !enabled {
		why += "; bandwidthManager.enabled=true sets fq"
	}
	return way, why
}
