setfattr -n user.one -v value text
setfattr -n user.two -v 0x00ff41 text
getfattr -d -m - text
setfattr -x user.one text
getfattr -n user.none text
