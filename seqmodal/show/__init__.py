"""Pictures, pages and sound for people, from plain arrays. Imports no other part of seqmodal."""
