package api

// BodiesInFlight says whether bodies take anything of their budget.
func (s *Server) BodiesInFlight() bool {
	all := s.limits.Bodies
	if !s.bodies.free.TryAcquire(all) {
		return true
	}
	s.bodies.free.Release(all)
	return false
}
