export default undefined; // deflated DICOM is refused
