"""How captures are made: sessions on interfaces, recorders and replayed files, alone or merged."""
